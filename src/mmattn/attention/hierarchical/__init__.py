"""Attention to near tokens one by one, and to groups of the others."""
