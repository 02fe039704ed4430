"""One training step after another, and what happens around it."""
