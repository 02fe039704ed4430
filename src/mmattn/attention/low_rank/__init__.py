"""Attention through a fixed number of rows, columns or latents."""
