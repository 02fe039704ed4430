"""The position in the data of an epoch, from which a resumed run continues."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.data.load.loader import EpochLoader
from mmattn.errors import UsageError


class KeepPlace(Callback):
    """Makes a resumed run continue with the next batch of its epoch.

    Lightning saves the loader's state too, but does not restore it once a schedule has read the number of steps.
    `clips`: SplitData.digest; a checkpoint of other clips is rejected.
    """

    def __init__(self, clips: str) -> None:
        self._loader: EpochLoader | None = None
        self._place: dict[str, Any] = {}
        self.clips = clips

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(trainer.train_dataloader, EpochLoader)
        self._loader = trainer.train_dataloader
        if self._place:
            self._check_same(self._loader.global_batch)
            self._loader.load_state_dict(self._place)

    def _check_same(self, batch: int) -> None:
        """Raises UsageError where the position would now mean other clips."""
        if (before := self._place.get("global_batch", batch)) != batch:
            raise UsageError(
                f"the checkpoint was made with batches of {before} clips over all processes, now they have {batch}; "
                "set data.batch_size back, or start a new run"
            )
        if self._place.get("clips", self.clips) != self.clips:
            raise UsageError(
                "the training clips are not those of the checkpoint (their ids, spans, tags or captions differ); put "
                "the manifest back, or start a new run"
            )

    def state_dict(self) -> dict[str, Any]:
        if not self._loader:
            return {}
        return {**self._loader.state_dict(), "global_batch": self._loader.global_batch, "clips": self.clips}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict
