"""Checks whether this machine can train and predict."""
