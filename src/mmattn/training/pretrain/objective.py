"""What a self-supervised objective is: a batch without labels in, a loss out."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from mmattn.model import AVModel
from mmattn.types import Batch


class Objective(nn.Module):
    """Its own weights (projections, decoders) are trained with the model's and thrown away afterwards."""

    @abstractmethod
    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise. `generator`: of masks; None = torch's own, seeded by the step.

        In distributed training the mean of the processes' losses is the loss of the global batch.
        """
