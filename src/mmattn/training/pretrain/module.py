"""Pretraining without labels: the training module, and the callback that keeps its model."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from mmattn.checkpoint import MODEL_FILE, Checkpoint, save_model
from mmattn.model import AVModel
from mmattn.tasks.distributed import each_process
from mmattn.training.callbacks.keep_model import KeepModel
from mmattn.training.logging.loggers import log
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.adamw import AdamWOneCycle
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch


class PretrainModule(TrainingModule):
    """Trains an objective instead of tasks. `mean_loss`: of the last validation, over the clips of all processes."""

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
        """Masks are the same in each validation, so that losses are comparable."""
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
    """Keeps the model of the last validation: a lower masked loss does not mean a better model for tags."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PretrainModule)
        if not trainer.is_global_zero or pl_module.mean_loss is None:
            return
        info = {"epoch": trainer.current_epoch, "step": trainer.global_step, "val_loss": pl_module.mean_loss}
        kept = Checkpoint(pl_module.model, self.config, pl_module.model.task.vocabulary, self.clip, info)
        save_model(self.run / MODEL_FILE, kept)
