"""Decode in a separate process."""
