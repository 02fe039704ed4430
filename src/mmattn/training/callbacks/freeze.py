"""Encoders frozen at first, then unfrozen at once or gradually from the output down (Howard & Ruder 2018)."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import nn

from mmattn.errors import UsageError
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.gradients import encoders


class FreezeEncoders(Callback):
    """Freezes the encoders for `epochs`, then unfreezes one of `stages` parts in each epoch, the last part first.

    Parts have equal numbers of weight tensors, in the order in which the encoder defines them. An encoder that is not
    fully unfrozen is in eval mode: no dropout, and batch statistics are kept. Weights frozen by the encoder stay so.
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
        """Not in on_train_epoch_start, which is not called again when a run resumes within an epoch."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.current_epoch == self._epoch:
            return
        self._epoch = trainer.current_epoch
        unfrozen = min(max(self._epoch - self.epochs + 1, 0), self.stages)
        for name, encoder in encoders(pl_module.model).items():
            weights = self._trained[name]
            first = len(weights) - round(len(weights) * unfrozen / self.stages)  # that is trained
            for place, weight in enumerate(weights):
                weight.requires_grad_(place >= first)
            encoder.train(unfrozen == self.stages)
