"""The same in wandb."""
