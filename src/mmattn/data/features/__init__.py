"""Tokens of frozen encoders, made once."""
