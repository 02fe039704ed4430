"""Decoding in a process of its own."""
