"""What all processes agree on before each step, in one exchange and one wait for the device."""

from __future__ import annotations

import math

import lightning
import torch
from torch import Tensor

from mmattn.errors import MmattnError, Unheard
from mmattn.training.distributed.meter import wide


class StepConsensus:
    """A step that would spoil the weights ends every process; a signal to one of them is known to all.

    `received`: a signal of this process, by whoever catches it; 0 = none. `signal`: the one that all know of.
    """

    def __init__(self) -> None:
        self.received = 0
        self.signal = 0

    def before_step(self, trainer: lightning.Trainer, norm: Tensor, more: Tensor) -> Tensor:
        """`more` (N,) of each process -> (R, N) of all, on the processor. `norm`: of the gradient.

        Raises MmattnError where a gradient is not finite: the first process says so, for all. With 16-mixed, whose
        scaler expects that now and then and skips those steps itself, it is not looked at.
        """
        own = torch.stack([norm, torch.full_like(norm, self.received)])
        rows = _rows(trainer, torch.cat([wide(own), wide(more)]))
        self.signal = int(rows[:, 1].max())
        norms = rows[:, 0].tolist()
        broken = [rank for rank, value in enumerate(norms) if not math.isfinite(value)]
        if broken and trainer.precision != "16-mixed":
            if not trainer.is_global_zero:
                raise Unheard.with_code(MmattnError.exit_code)
            raise MmattnError(
                f"step {trainer.global_step}: the gradient is not finite (norm {norms[broken[0]]} on rank {broken[0]});"
                " lower optim.lr or set trainer.precision=32-true"
            )
        return rows[:, 2:]

    def shared_signal(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> int:
        """The signal that any of the processes has by now; all of them have to ask."""
        self.signal = self.received
        if trainer.world_size > 1:
            received = torch.tensor([float(self.received)], device=module.device)
            self.signal = int(_rows(trainer, received).max())
        return self.signal


def _rows(trainer: lightning.Trainer, own: Tensor) -> Tensor:
    """(N,) of each process -> (R, N) of all R of them."""
    if trainer.world_size == 1:
        return own[None].cpu()
    rows = trainer.strategy.all_gather(own)
    assert isinstance(rows, Tensor)
    return rows.cpu()
