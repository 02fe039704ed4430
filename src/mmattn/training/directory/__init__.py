"""The run directory: its files, its frozen config, and the lock of whoever trains in it."""
