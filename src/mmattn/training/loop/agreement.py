"""What all processes agree on before each step, in one exchange and one wait for the device."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mmattn.errors import MmattnError
from mmattn.training.loop.gradients import gradient_norm


class Agreement(Callback):
    """A step that would spoil the weights ends every process; a signal to one of them is known to all.

    `received`: a signal of this process, by whoever catches it; 0 = none. `signal`: the one that all know of.
    """

    def __init__(self) -> None:
        self.received = 0
        self.signal = 0

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Any
    ) -> None:
        """Raises MmattnError where a gradient is not finite. With 16-mixed, whose scaler expects that now and then and
        skips those steps itself, it is not looked at.
        """
        norm = gradient_norm(pl_module)
        look = trainer.precision != "16-mixed"
        broken = norm.isfinite().logical_not() & look
        spoiled, self.signal = self._most(trainer, broken.float(), self.received)
        if spoiled:
            raise MmattnError(
                f"step {trainer.global_step}: the gradient is not finite (norm {float(norm)} on rank "
                f"{trainer.global_rank}); lower optim.lr or set trainer.precision=32-true"
            )

    def ask(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> int:
        """The signal that any of the processes has by now; all of them have to ask."""
        _, self.signal = self._most(trainer, torch.zeros((), device=module.device), self.received)
        return self.signal

    def _most(self, trainer: lightning.Trainer, spoiled: torch.Tensor, received: int) -> tuple[bool, int]:
        if trainer.world_size == 1:
            return bool(spoiled), received
        both = torch.stack([spoiled, torch.full_like(spoiled, received)])
        found = trainer.strategy.reduce(both, reduce_op="max").tolist()
        return bool(found[0]), int(found[1])
