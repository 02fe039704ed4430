"""FSDP2: each process holds a shard of the model."""
