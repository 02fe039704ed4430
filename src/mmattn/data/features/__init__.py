"""Tokens of frozen encoders, computed once."""
