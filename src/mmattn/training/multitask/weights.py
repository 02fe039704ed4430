"""multitask=weights: a fixed weight for each task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.training.multitask.interface import TaskWeights


class FixedWeights(TaskWeights):
    """The sum of weight x loss."""

    def __init__(self, tags: float = 1.0, captions: float = 1.0) -> None:
        super().__init__()
        if min(tags, captions) < 0 or not max(tags, captions) > 0:
            raise UsageError(
                f"multitask: expected weights of 0 or more, at least one above 0; got tags={tags} captions={captions}"
            )
        self.weights = {"tags": tags, "captions": captions}

    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.stack([self.weights[task] * loss for task, loss in losses.items()]).sum(), {}
