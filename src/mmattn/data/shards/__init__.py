"""Data sets decoded once, in tars."""
