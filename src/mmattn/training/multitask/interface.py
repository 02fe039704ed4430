"""How the losses of tags and captions become one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class TaskWeights(nn.Module):
    """Maps losses by task to (the loss to minimise, values to log). Only tasks that the model has are given."""

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]: ...
