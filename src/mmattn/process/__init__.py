"""Processes: leases, signals, cores, memory, Slurm's queue. No torch at import."""
