"""What happens around training: keeping the model and the place, seeding each step, telling the person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mmattn.checkpoint import MODEL_FILE, Checkpoint, save_model
from mmattn.config import Config
from mmattn.data.load.loader import EpochLoader
from mmattn.data.prepare.clips import ClipSpec
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.progress import Progress
from mmattn.training.loop.curves import headline, score
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.sharding import whole_weights
from mmattn.training.run.checkpoints import LAST

EVALUATION_FILE = "evaluation.json"
NO_SCORE = -1.0  # below every score


class KeepModel(Callback):
    """Writes the training checkpoint after each epoch; the model with its evaluation when validation improves.

    Validations without any score (no clip has a tag or a caption) come below all others; of such the last is kept.
    """

    def __init__(self, run: Path, config: Config, clip: ClipSpec) -> None:
        self.run = run
        self.config = config
        self.clip = clip
        self.best = NO_SCORE

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Not at the epoch's start, which a run that resumes within an epoch does not see again."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # the last epoch is validated whatever the interval

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        evaluation = pl_module.evaluation
        if evaluation is None:
            return
        value = score(evaluation)
        value = NO_SCORE if value is None else value
        if value < self.best:  # of equals the later: it has seen more
            return
        self.best = value
        weights = whole_weights(pl_module.model)  # of all processes together
        if not trainer.is_global_zero:
            return
        info: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        info |= {f"val_{name}": number for name, number in headline(evaluation).items()}
        info["gradient_share"] = evaluation["gradient_share"]  # of the training before it, so no other split has it
        vocabulary = pl_module.model.task.vocabulary
        kept = Checkpoint(pl_module.model, self.config, vocabulary, self.clip, info, pl_module.thresholds)
        save_model(self.run / MODEL_FILE, kept, weights)
        record = {"split": "val", **info, **evaluation}
        write_atomically(self.run / EVALUATION_FILE, json.dumps(record, indent=1).encode())

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.save_checkpoint(self.run / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


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
            self._progress = Progress(self.title, int(trainer.estimated_stepping_batches)).__enter__()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
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
