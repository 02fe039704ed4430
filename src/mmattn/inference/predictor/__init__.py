"""Trained models answer files."""
