"""A whole file as a series of windows, decoded once."""
