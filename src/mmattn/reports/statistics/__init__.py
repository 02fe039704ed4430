"""What differs, and how sure that is."""
