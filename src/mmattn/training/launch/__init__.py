"""The processes of a run: here, by torchrun, by Slurm."""
