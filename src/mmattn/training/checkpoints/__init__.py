"""Training checkpoints: whole or absent, from one process or in parts."""
