"""Searches a library: an index of all texts with their times, and queries by words or by meaning."""
