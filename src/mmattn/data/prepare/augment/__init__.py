"""Augmentation of clips in training."""
