"""The optimizer with its schedule, gradient shares, and self-critical training."""
