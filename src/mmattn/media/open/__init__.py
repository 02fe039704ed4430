"""Opening a file nobody vouches for, and what its header says."""
