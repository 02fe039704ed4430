"""One trainer for a run directory, on whatever host: who comes second is refused, who was taken over stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.errors import MmattnError, UsageError
from mmattn.lease import Lease

LEASE = ".lease"  # in a run directory, or in a sweep's


@contextmanager
def alone(folder: Path, *, wait_s: float = 0.0) -> Iterator[Lease]:
    """While the body runs nobody else trains in `folder`. `wait_s`: for a holder that is known to have ended.

    Raises UsageError, naming who does.
    """
    lease = Lease(folder / LEASE)
    until = time.monotonic() + wait_s
    try:
        while not lease.take():
            if time.monotonic() >= until:
                raise UsageError(
                    f"{folder}: another process trains here: {lease.holder()}; wait for it, stop it, or choose "
                    f"another folder (if it is dead, this is free {lease.stale_s:.0f} s after its last sign of life)"
                )
            time.sleep(1.0)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    with lease:
        yield lease


class StopIfTaken(Callback):
    """A process that stood still for so long that another took its run over writes nothing more."""

    def __init__(self, run: Path, lease: Lease) -> None:
        self.run = run
        self.lease = lease

    def _check(self) -> None:
        if self.lease.lost():
            raise MmattnError(f"{self.run}: taken over by {self.lease.holder()}, since this process stood still")

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
