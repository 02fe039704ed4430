"""Sentences by a language model: of shots, of chapters, of a whole file."""
