"""One file of a format for all records."""
