"""Seeds the random numbers of each step."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback


class SeedSteps(Callback):
    """Seeds torch from (seed, step, rank) before each batch, so that dropout is the same in a resumed run.

    Each batch of an accumulated step has a seed of its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        batches = trainer.accumulate_grad_batches
        step = (self.seed * 1_000_003 + trainer.global_step) * batches + batch_idx % batches
        key = step * 4099 + trainer.global_rank
        torch.manual_seed(key % 2**63)
