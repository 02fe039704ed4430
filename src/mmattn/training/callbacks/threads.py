"""How many threads torch computes with in each process, which its sums depend on."""

from __future__ import annotations

import os

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmattn.config.compose import Config
from mmattn.process.openmp import cores


class Threads(Callback):
    """Lightning's launcher chooses a number by the processes of this machine, in place of ours; this sets ours again.

    Two nodes with one process each would round otherwise than one node with two.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.count)


def threads_of(config: Config) -> int:
    """trainer.threads, or the cores that there are for this machine's processes shared out among them.

    A task of Slurm's has cores of its own, whether or not it is bound to them.
    """
    options = config["trainer"]
    slurm = str((config.get("launcher") or {}).get("_target_")).endswith("Slurm")
    own = int(os.environ.get("SLURM_CPUS_PER_TASK") or 0) if slurm else 0
    return options["threads"] or min(own, cores()) or max(1, cores() // options["devices"])
