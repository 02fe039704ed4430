"""Progress of training on one line."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.progress import Progress
from mmattn.training.logging.curves import headline
from mmattn.training.loop.module import TrainingModule


class Report(Callback):
    """Progress with an estimate, and a line after each validation."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._note = ""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module, TrainingModule)
            self._progress = Progress(self.title, pl_module.total_steps, begun=trainer.global_step).__enter__()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero:
            self._progress.at(trainer.global_step, f"epoch {trainer.current_epoch + 1}{self._note}")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module.evaluation is not None:
            self._note = "".join(f" {name} {number:.3f}" for name, number in headline(pl_module.evaluation).items())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            self._progress.__exit__(None, None, None)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if trainer.is_global_zero and hasattr(self, "_progress"):
            self._progress.__exit__(type(exception), exception, None)
