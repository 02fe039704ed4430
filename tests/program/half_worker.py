"""Training in 16-mixed on a processor, where Lightning has no scaler: HALF=RANK,STEP half_worker.py RUN_DIR.

On that rank the loss of that step is infinite.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import MixedPrecision

from mmattn.training import worker
from mmattn.training.loop.module import TrainingModule

WEIGHTS = "weights{rank}.pt"


class Watch(Callback):
    """Each step's weights and scale."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.steps: list[tuple[float, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        weights = torch.cat([weight.detach().flatten() for weight in pl_module.parameters()])
        self.steps.append((trainer.precision_plugin.state_dict()["scale"], weights.clone()))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        torch.save(self.steps, self.run / WEIGHTS.format(rank=trainer.global_rank))


def in_half(put: Callable[..., Any], rank: int = -1, step: int = -1) -> None:
    make, plain = lightning.Trainer, TrainingModule.training_step

    def trainer(**options: Any) -> lightning.Trainer:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        del options["precision"]
        options["plugins"] = [*options["plugins"], MixedPrecision("16-mixed", "cpu", scaler)]
        options["callbacks"] = [*options["callbacks"], Watch(Path(options["default_root_dir"]))]
        return make(**options)

    def training_step(self: TrainingModule, batch: Any, number: int) -> torch.Tensor:
        loss = plain(self, batch, number)
        struck = self.trainer.global_rank == rank and self.trainer.global_step == step
        return loss * torch.inf if struck else loss

    put(lightning, "Trainer", trainer)
    put(TrainingModule, "training_step", training_step)


if __name__ == "__main__":
    in_half(setattr, *map(int, os.environ["HALF"].split(",")))
    sys.exit(worker.main())
