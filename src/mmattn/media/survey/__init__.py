"""What a file holds, measured."""
