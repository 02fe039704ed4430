"""Captions: decoders, their memory of the clip, and the search."""
