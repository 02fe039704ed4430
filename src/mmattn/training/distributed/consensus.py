"""What all processes agree on before each step, in one all-gather and one device synchronisation."""

from __future__ import annotations

import math

import lightning
import torch
from torch import Tensor

from mmattn.errors import MmattnError, PeerFailed
from mmattn.training.distributed.meter import wide


class StepConsensus:
    """A gradient that is not finite ends every process; a signal to one process reaches all of them.

    `received`: the signal that this process got; 0 = none. `signal`: the one that all processes know of.
    """

    def __init__(self) -> None:
        self.received = 0
        self.signal = 0

    def before_step(self, trainer: lightning.Trainer, norm: Tensor, more: Tensor) -> Tensor:
        """`more` (N,) of each process -> (R, N) of all, on the CPU. `norm`: of the gradient.

        Raises MmattnError where a gradient is not finite; rank 0 reports it for all. Not checked with 16-mixed, whose
        scaler skips such steps itself.
        """
        own = torch.stack([norm, torch.full_like(norm, self.received)])
        rows = _rows(trainer, torch.cat([wide(own), wide(more)]))
        self.signal = int(rows[:, 1].max())
        norms = rows[:, 0].tolist()
        broken = [rank for rank, value in enumerate(norms) if not math.isfinite(value)]
        if broken and trainer.precision != "16-mixed":
            if not trainer.is_global_zero:
                raise PeerFailed.with_code(MmattnError.exit_code)
            raise MmattnError(
                f"step {trainer.global_step}: the gradient is not finite (norm {norms[broken[0]]} on rank {broken[0]});"
                " lower optim.lr or set trainer.precision=32-true"
            )
        return rows[:, 2:]

    def shared_signal(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> int:
        """The signal that any process has received by now. Collective: every process has to call it."""
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
