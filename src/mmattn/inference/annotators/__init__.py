"""Ready-made models answer files, without training."""
