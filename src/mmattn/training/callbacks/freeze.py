"""Encoders frozen at first and trained later, all at once or from the output down (Howard & Ruder 2018)."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import nn

from mmattn.errors import UsageError
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.gradients import encoders


class FreezeEncoders(Callback):
    """Nothing of the encoders is trained for `epochs`; then one of `stages` parts more each epoch, the last part first.

    Parts are equal counts of weight tensors in the order in which the encoder defines them. An encoder that is not
    trained as a whole is in eval mode: no dropout, and batch statistics stay. What is frozen for good stays so.
    """

    def __init__(self, epochs: int, stages: int) -> None:
        if epochs < 1 or stages < 1:
            raise UsageError(f"freeze: expected epochs and stages of 1 or more; got {epochs}, {stages}")
        self.epochs = epochs
        self.stages = stages
        self._trained: dict[str, list[nn.Parameter]] = {}
        self._epoch = -1

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        for name, encoder in encoders(pl_module.model).items():
            self._trained[name] = [weight for weight in encoder.parameters() if weight.requires_grad]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Not at the epoch's start, which a run that resumes within an epoch does not see again."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.current_epoch == self._epoch:
            return
        self._epoch = trainer.current_epoch
        opened = min(max(self._epoch - self.epochs + 1, 0), self.stages)
        for name, encoder in encoders(pl_module.model).items():
            weights = self._trained[name]
            first = len(weights) - round(len(weights) * opened / self.stages)  # of those that are trained
            for place, weight in enumerate(weights):
                weight.requires_grad_(place >= first)
            encoder.train(opened == self.stages)
