"""The views of a comparison in wandb."""
