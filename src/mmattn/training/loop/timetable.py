"""When a run validates and when it is over: by epochs or steps, whichever comes first.

Lightning is told batch by batch (`val_check_batch`, `should_stop`); its own max_steps and intervals cannot be resumed
with a validation still to come.
"""

from __future__ import annotations

import sys
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.config.compose import Config
from mmattn.errors import UsageError

_NEVER = sys.maxsize
_VAL_PROGRESS = "epoch_loop.val_loop.batch_progress"


def total_steps(trainer: lightning.Trainer, max_steps: int = 0) -> int:
    """Optimizer steps of a whole run: those of its epochs, or `max_steps` (0 = no limit) where these are fewer."""
    steps = int(trainer.estimated_stepping_batches)
    return min(steps, max_steps) if max_steps else steps


class Timetable(Callback):
    """`validate_every` epochs, or `validate_every_steps` if that is not 0, and after the last step in any case.

    A checkpoint written while a validation is `owed` says so, and a run that goes on from it begins with it. Its place
    is before all callbacks that ask for it.
    """

    def __init__(self, validate_every: int = 1, validate_every_steps: int = 0, max_steps: int = 0) -> None:
        for key, value, least in (
            ("validate_every", validate_every, 1),
            ("validate_every_steps", validate_every_steps, 0),
            ("max_steps", max_steps, 0),
        ):
            if value < least:
                raise UsageError(f"trainer.{key}={value}: expected {least} or more")
        self.validate_every = validate_every
        self.validate_every_steps = validate_every_steps
        self.max_steps = max_steps
        self.owed = False  # a validation, of the steps done so far

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._tell(trainer)
        trainer.should_stop = not self.owed and self._over(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.owed = steps_after(trainer, batch_idx) and self._due(trainer)
        self._tell(trainer)
        trainer.should_stop = trainer.should_stop or self._over(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.owed = False
        self._tell(trainer)
        trainer.should_stop = trainer.should_stop or self._over(trainer)

    def _due(self, trainer: lightning.Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        if self._over(trainer) or (trainer.is_last_batch and epoch == trainer.max_epochs):
            return True
        if self.validate_every_steps:
            return trainer.global_step % self.validate_every_steps == 0
        return trainer.is_last_batch and epoch % self.validate_every == 0

    def _over(self, trainer: lightning.Trainer) -> bool:
        return trainer.global_step >= total_steps(trainer, self.max_steps)

    def _tell(self, trainer: lightning.Trainer) -> None:
        trainer.val_check_batch = 1 if self.owed else _NEVER

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning, restarted with a validation of which a batch was begun and none done, runs it from its start."""
        if self.owed:
            progress = checkpoint["loops"]["fit_loop"][_VAL_PROGRESS]
            progress["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress["current"] |= dict.fromkeys(("ready", "started", "processed", "completed"), 0)

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self.owed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.owed = state_dict["owed"]


def timetable_of(config: Config) -> Timetable:
    """The timetable of a run. Raises UsageError."""
    options = config["trainer"]
    return Timetable(options["validate_every"], options.get("validate_every_steps", 0), options.get("max_steps", 0))


def steps_after(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether the batch ends a step, and none of which the gradient is half accumulated."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
