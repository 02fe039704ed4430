"""Stops a process whose run directory was taken over by another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.errors import MmattnError
from mmattn.process.lease import Lease


class StopIfTaken(Callback):
    """Ends training when the lease was lost: this process was paused, or its job was started anew elsewhere."""

    def __init__(self, run: Path, lease: Lease) -> None:
        self.run = run
        self.lease = lease

    def check(self, *, now: bool = True) -> None:
        """Raises MmattnError if another process has the run. `now`: as for Lease.lost."""
        if self.lease.lost(now=now):
            why = "because this process was paused or its job was started anew"
            raise MmattnError(f"{self.run}: taken over by {self.lease.holder()}, {why}")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.check(now=False)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.check(now=False)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.check()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.check()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.check()
