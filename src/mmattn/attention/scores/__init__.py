"""Scores of a query and a key other than the dot product."""
