"""Measure the content of a file."""
