"""Clips decoded once, in tars."""
