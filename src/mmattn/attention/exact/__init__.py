"""Exact attention: a pattern of pairs, a score for each pair, a normaliser of the scores."""
