"""Random numbers of a step, drawn from the seed and the step alone."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback


class SeedSteps(Callback):
    """Dropout depends on (seed, step, rank) alone, so that a resumed run repeats what it would have done.

    Of batches whose gradients are accumulated into one step each has its own.
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
