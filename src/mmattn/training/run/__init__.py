"""One run: checks before it, its training, its evaluation."""
