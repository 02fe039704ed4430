"""Embeddings of sentences, for search by meaning and for chapters."""
