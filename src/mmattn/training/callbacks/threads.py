"""The number of torch threads in each process, which rounding depends on."""

from __future__ import annotations

import os

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmattn.config.compose import Config
from mmattn.process.openmp import cores


class Threads(Callback):
    """Sets the number of threads again after Lightning's launcher has changed it.

    Otherwise two nodes with one process each would round differently from one node with two.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.count)


def threads_of(config: Config) -> int:
    """trainer.threads, or the available cores divided by the processes of this machine.

    A Slurm task has the cores that it was given, whether or not it is bound to them.
    """
    options = config["trainer"]
    slurm = str((config.get("launcher") or {}).get("_target_")).endswith("Slurm")
    own = int(os.environ.get("SLURM_CPUS_PER_TASK") or 0) if slurm else 0
    return options["threads"] or min(own, cores()) or max(1, cores() // options["devices"])
