"""Reads a file, or a part of it, and collects the issues met on the way."""
