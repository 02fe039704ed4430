"""Saves the best model of a run by a validated metric, and stops early when it no longer improves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from mmattn.checkpoint import MODEL_FILE, Checkpoint, save_model
from mmattn.config.compose import Config
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.metrics.directions import HIGHER, LOWER
from mmattn.training.directory.names import EVALUATION_FILE
from mmattn.training.logging.curves import headline, score
from mmattn.training.loop.module import TrainingModule
from mmattn.training.sharding.weights import whole_weights

NO_SCORE = -math.inf  # below every score


class KeepModel(Callback):
    """Writes the model and its evaluation after each validation that is at least as good as all before it.

    `by`: the metric below `val/` that decides, such as mAP, loss, f1/macro or captions/cider_d; None: see `score`.
    `mode`: max or min; None: as fits the metric. `patience`: worse validations in a row after which training stops;
    0 = never. A validation without the metric ranks below all others.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        clip: ClipSpec,
        by: str | None = None,
        mode: str | None = None,
        patience: int = 0,
    ) -> None:
        self.by = by.removeprefix("val/") if by else None
        group = self.by.split("/")[0] if self.by else ""
        if self.by and group not in (*LOWER, *HIGHER):
            known = ", ".join((*LOWER, *HIGHER))
            raise UsageError(f"trainer.keep_by={by}: expected {known}, or one of a group (f1/macro)")
        if mode not in (None, "max", "min"):
            raise UsageError(f"trainer.keep_mode={mode}: expected max or min")
        if patience < 0:
            raise UsageError(f"trainer.patience={patience}: expected 0 or more")
        lower = mode == "min" if mode else group in LOWER
        self.sign = -1.0 if lower else 1.0
        self.patience = patience
        self.run = run
        self.config = config
        self.clip = clip
        self.best = NO_SCORE  # with its sign
        self.worse = 0  # validations in a row

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._stop_early(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Rank 0 decides for all processes."""
        assert isinstance(pl_module, TrainingModule)
        value = trainer.strategy.broadcast(self._value(pl_module))
        better = value >= self.best
        self.worse = 0 if better else self.worse + 1
        self._stop_early(trainer)
        if not better:
            return
        self.best = value
        weights = whole_weights(pl_module.model)
        if trainer.is_global_zero:
            self._write(trainer, pl_module, weights)

    def _value(self, module: TrainingModule) -> float:
        """The metric, with the sign for "higher is better". Raises UsageError where the run has no such metric."""
        name = f"val/{self.by}"
        if self.by is None:
            value = score(module.evaluation) if module.evaluation else None
        elif "/" in self.by and name not in module.validated:
            group = name.rpartition("/")[0]
            there = ", ".join(other for other in sorted(module.validated) if other.startswith(group))
            raise UsageError(f"trainer.keep_by={self.by}: this run has {there or f'no {group}'}")
        else:
            value = module.validated.get(name)  # a metric that is undefined for these clips is missing
        return NO_SCORE if value is None or math.isnan(value) else self.sign * value

    def _stop_early(self, trainer: lightning.Trainer) -> None:
        if self.patience and self.worse >= self.patience:
            trainer.should_stop = True

    def _write(self, trainer: lightning.Trainer, module: TrainingModule, weights: dict[str, Any]) -> None:
        evaluation = module.evaluation or {}
        info: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        info |= {f"val_{name}": number for name, number in headline(evaluation).items()}
        info["gradient_share"] = evaluation[
            "gradient_share"
        ]  # measured while training before it, so no other split has it
        vocabulary = module.model.task.vocabulary
        kept = Checkpoint(module.model, self.config, vocabulary, self.clip, info, module.thresholds)
        save_model(self.run / MODEL_FILE, kept, weights)
        record = {"split": "val", **info, **evaluation}
        write_atomically(self.run / EVALUATION_FILE, json.dumps(record, indent=1).encode())

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "worse": self.worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.worse = state_dict["best"], state_dict.get("worse", 0)
