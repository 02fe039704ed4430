"""What runs left behind, read."""
