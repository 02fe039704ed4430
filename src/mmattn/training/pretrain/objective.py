"""The interface of self-supervised objectives: a loss from a batch without labels."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mmattn.model import AVModel
from mmattn.types import Batch


class Objective(nn.Module):
    """Its weights (projections, decoders) are trained with the model, and discarded afterwards."""

    @abstractmethod
    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise. `generator`: for masks; None = the global one.

        In distributed training the mean of the processes' losses is the loss of the global batch.
        """
