"""Stops a process whose run directory was taken over by another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.errors import MmattnError
from mmattn.process.lease import Lease


class StopIfTaken(Callback):
    """Ends training when the lease was lost, because this process was paused so long that another took over."""

    def __init__(self, run: Path, lease: Lease) -> None:
        self.run = run
        self.lease = lease

    def _check(self) -> None:
        if self.lease.lost():
            raise MmattnError(f"{self.run}: taken over by {self.lease.holder()}, because this process was paused")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._check()

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._check()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._check()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check()
