"""Where numbers go, and which numbers."""
