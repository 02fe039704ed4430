"""Training checkpoints: atomic, verified, in one file or one part per process."""
