"""Runs the open shards of a predict job: in processes here, in Slurm tasks, or in Ray actors."""
