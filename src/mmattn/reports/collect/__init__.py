"""Run directories read into records."""
