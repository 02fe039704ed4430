"""How many threads torch computes with in each process, which its sums depend on."""

from __future__ import annotations

import os

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmattn.config import Config


class Threads(Callback):
    """Lightning's launcher chooses a number by the processes of this machine, in place of ours; this sets ours again.

    Two nodes with one process each would round otherwise than one node with two.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.set_num_threads(self.count)


def threads_of(config: Config) -> int:
    """trainer.threads, or this machine's cores shared out among its processes."""
    options = config["trainer"]
    return options["threads"] or max(1, (os.cpu_count() or 1) // options["devices"])
