"""How the losses of tags and captions become one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class TaskWeights(nn.Module):
    """Losses by task -> (the loss to minimise, numbers to log). Tasks that a model does not have are not in it."""

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]: ...
