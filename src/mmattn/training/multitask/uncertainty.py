"""multitask=uncertainty: a learned weight for each task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmattn.training.multitask.interface import TaskWeights


class UncertaintyWeights(TaskWeights):
    """sum of loss / sigma^2 + log sigma, each sigma learned (Kendall, Gal & Cipolla 2018, eq. 10, classification).

    The weight 1 / sigma^2 of a task tends to 1 / (2 loss). With one task the minimum is the same as without weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({task: torch.zeros(()) for task in ("tags", "captions")})

    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        logs = {task: self.log_variance[task] for task in losses}
        total = torch.stack([loss * torch.exp(-logs[task]) + 0.5 * logs[task] for task, loss in losses.items()]).sum()
        # Weights of tasks that the model lacks get a gradient of 0, so that DDP does not wait for one.
        total = total + 0.0 * torch.stack(list(self.log_variance.values())).sum()
        return total, {f"weight_{task}": torch.exp(-log).detach() for task, log in logs.items()}
