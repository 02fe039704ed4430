"""Tags: heads, losses, thresholds."""
