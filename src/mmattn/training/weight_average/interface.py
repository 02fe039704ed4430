"""Weight averaging: validation and the saved model use averaged weights, training the current ones."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mmattn.renamed import renamed
from mmattn.training.checkpoints.left_out import left_out
from mmattn.training.loop.module import TrainingModule


class WeightAverage(Callback):
    """Averages all floating-point weights and running statistics after each step, in float32 or better.

    The average is part of the checkpoint, whose weights are always the current ones. Must come after the callback that
    saves the model in a validation, and before the one that saves a checkpoint after a step.
    """

    def __init__(self) -> None:
        self._average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}  # the current weights, while the model has the average
        self._steps = 0  # in the average
        self._seen = 0  # optimizer steps

    @abstractmethod
    def share(self, progress: float) -> float | None:
        """The share of the current weights in the new average; None: leave this step out.

        `progress`: share of all steps done.
        """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._average = {name: tensor.to(pl_module.device) for name, tensor in self._average.items()}
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._seen:  # gradients are still being accumulated
            return
        self._seen = trainer.global_step
        assert isinstance(pl_module, TrainingModule)
        share = self.share(self._seen / max(1, pl_module.total_steps))
        if share is None:
            return
        self._steps += 1
        for name, weight in _weights(pl_module).items():
            wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
            if name in self._average:
                self._average[name].lerp_(wide, share)
            else:
                self._average[name] = wide.clone()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        weights = _weights(pl_module) if self._steps else {}
        self._own = {name: weight.clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.copy_(self._average[name])

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for name, weight in _weights(pl_module).items():
            if name in self._own:
                weight.copy_(self._own[name])
        self._own = {}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["state_dict"] |= {f"model.{name}": weight for name, weight in self._own.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": dict(self._average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps, self._average = state_dict["steps"], renamed(state_dict["average"])


def _weights(pl_module: lightning.LightningModule) -> dict[str, Tensor]:
    """The tensors of a saved model, except integers and frozen weights from files."""
    assert isinstance(pl_module, TrainingModule)
    given, own = left_out(pl_module.model), pl_module.model.state_dict()
    return {name: tensor for name, tensor in own.items() if tensor.is_floating_point() and name not in given}
