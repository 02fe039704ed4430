"""When a run validates and when it ends: by epochs or steps, whichever comes first.

Controls Lightning batch by batch (`val_check_batch`, `should_stop`), because with its own max_steps and intervals a
run cannot be resumed before a validation that is due.
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
    """Optimizer steps of a whole run: those of its epochs, or `max_steps` (0 = no limit) if fewer."""
    steps = int(trainer.estimated_stepping_batches)
    return min(steps, max_steps) if max_steps else steps


class Timetable(Callback):
    """Validates every `validate_every` epochs, or `validate_every_steps` if not 0, and always after the last step.

    A checkpoint records whether a validation is due (`owed`); a run resumed from it begins with the validation. Must
    come before the callbacks that read `owed`.
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
        self.owed = False  # whether a validation of the current step is due

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._set_validation(trainer)
        trainer.should_stop = not self.owed and self._over(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.owed = steps_after(trainer, batch_idx) and self._due(trainer)
        self._set_validation(trainer)
        trainer.should_stop = trainer.should_stop or self._over(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.owed = False
        self._set_validation(trainer)
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

    def _set_validation(self, trainer: lightning.Trainer) -> None:
        trainer.val_check_batch = 1 if self.owed else _NEVER

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Makes Lightning run the due validation from its start: one batch started, none completed."""
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
    """Whether an optimizer step was done after the batch, so that no gradient is partly accumulated."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
