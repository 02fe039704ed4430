"""What happens around training: keeping the place, seeding each step, telling the person."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mmattn.data.load.loader import EpochLoader
from mmattn.errors import UsageError
from mmattn.progress import Progress
from mmattn.training.logging.curves import headline
from mmattn.training.loop.module import TrainingModule


class KeepPlace(Callback):
    """A resumed run goes on with the batch after the last one, in the order of its epoch.

    Lightning keeps the loader's state too, but does not restore it once a schedule has asked for the number of steps.
    `clips`: SplitData.digest, by which other clips than those of the checkpoint are known and refused.
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
        """Raises UsageError where the place would mean another one now."""
        if (before := self._place.get("global_batch", batch)) != batch:
            raise UsageError(
                f"the checkpoint was made with batches of {before} clips over all processes, now they are {batch}: its "
                "steps would be others. Set data.batch_size back, or start a new run"
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
