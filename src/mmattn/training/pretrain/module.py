"""Pretraining without labels: the training module and the keeper of the model; and weights to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from mmattn.checkpoint import MODEL_FILE, Checkpoint, load_model, save_model
from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.tasks.distributed import each_process
from mmattn.training.logging.loggers import log
from mmattn.training.loop.keep import KeepModel
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.optim import AdamWOneCycle
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch


class PretrainModule(TrainingModule):
    """Trains by an objective instead of tasks. `mean_loss`: of the last validation, over all processes' clips."""

    def __init__(self, model: AVModel, optim: AdamWOneCycle, objective: Objective, max_steps: int = 0) -> None:
        super().__init__(model, optim, max_steps=max_steps)
        self.objective = objective
        self.mean_loss: float | None = None
        self._found: list[tuple[dict[str, float], float]] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective(self.model, batch)

    def on_validation_epoch_start(self) -> None:
        self._found = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Masks are the same each time, so that losses can be compared."""
        generator = torch.Generator().manual_seed(batch_idx)
        terms = self.objective(self.model, batch, generator)
        clips = float(each_process(batch.real.sum(), least=0.0))
        self._found.append(({name: float(value) for name, value in terms.items()}, clips))

    def on_validation_epoch_end(self) -> None:
        found = [(terms, count) for terms, count in self._found if count]
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, found)
            found = [one for part in parts for one in part]
        clips = max(1, sum(count for _, count in found))
        means = {name: sum(terms[name] * count for terms, count in found) / clips for name in found[0][0]}
        self.mean_loss = means["loss"]
        self.validated = {f"val/{name}": value for name, value in means.items()}
        log(self.trainer, self.validated)

    def beside(self) -> list[nn.Parameter]:
        return list(self.objective.parameters())


class KeepPretrained(KeepModel):
    """Keeps the model of the last validation: a masked loss that falls is no measure of what is learned for tags."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PretrainModule)
        if not trainer.is_global_zero or pl_module.mean_loss is None:
            return
        info = {"epoch": trainer.current_epoch, "step": trainer.global_step, "val_loss": pl_module.mean_loss}
        kept = Checkpoint(pl_module.model, self.config, pl_module.model.task.vocabulary, self.clip, info)
        save_model(self.run / MODEL_FILE, kept)


def start_from(model: AVModel, path: Path, quiet: bool = False) -> None:
    """Give `model` the encoders of a trained or pretrained run, and its fusion where that is the same.

    Raises UsageError where the encoders do not fit.
    """
    other = load_model(path).model
    for name in ("visual", "audio", "fusion"):
        own, found = getattr(model, name).state_dict(), getattr(other, name).state_dict()
        wrong = sorted(own.keys() ^ found.keys()) or [k for k in own if own[k].shape != found[k].shape]
        if not wrong:
            getattr(model, name).load_state_dict(found)
        elif name == "fusion":
            if not quiet:
                print(f"init_from={path}: its fusion is another one, so the fusion starts anew", file=sys.stderr)
        else:
            raise UsageError(
                f"init_from={path}: its {name} encoder is another one ({wrong[0]} and {len(wrong) - 1} more differ); "
                f"choose the same {name}=, dim= and settings"
            )
