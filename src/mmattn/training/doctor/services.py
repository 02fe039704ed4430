"""wandb and Slurm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from mmattn.training.doctor.finding import MachineFinding


def wandb() -> Iterator[MachineFinding]:
    """The mode and login of wandb. Makes no connection."""
    mode = os.environ.get("WANDB_MODE")
    if mode == "disabled":
        yield MachineFinding("note", "wandb", "disabled by WANDB_MODE; metrics are in each run's metrics.jsonl")
        return
    from mmattn.training.logging.wandb_run import has_credentials

    if has_credentials():
        state = "logged in; logger.online=true uploads" + (f", but WANDB_MODE={mode}" if mode == "offline" else "")
        yield MachineFinding("ok", "wandb", state)
    else:
        yield MachineFinding("note", "wandb", "not logged in, so runs stay offline; for uploads: wandb login")


def slurm() -> Iterator[MachineFinding]:
    """Slurm's commands are found, or none of them."""
    missing = [name for name in ("sbatch", "srun", "scontrol") if shutil.which(name) is None]
    if len(missing) == 3:
        yield MachineFinding("note", "slurm", "not here; launcher=slurm is for a login node of a cluster")
    elif missing:
        fix = "module load slurm, or add its bin folder to PATH"
        yield MachineFinding("problem", "slurm", f"{', '.join(missing)} not found, the others are", fix)
    else:
        yield MachineFinding("ok", "slurm", "sbatch, srun and scontrol are here")
