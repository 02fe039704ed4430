"""FSDP2: each process holds a share of the model."""
