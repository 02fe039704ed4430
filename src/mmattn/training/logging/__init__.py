"""Loggers, and the numbers of an evaluation."""
