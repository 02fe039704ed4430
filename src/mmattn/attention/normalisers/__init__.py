"""Normalisers other than softmax, which turn scores into weights."""
