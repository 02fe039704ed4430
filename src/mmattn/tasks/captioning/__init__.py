"""Captions: decoders, search, what they read."""
