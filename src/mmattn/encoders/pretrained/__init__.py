"""Pretrained networks, from packages, local files or a hub."""
