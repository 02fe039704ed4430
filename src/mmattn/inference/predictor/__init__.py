"""Turns files into records with a trained model."""
