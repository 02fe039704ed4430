"""Options against one modality holding back the other in joint training. None is on by default.

The prediction from one modality alone is that of the model's missing-modality path: this works with every fusion, adds
no weights, and is the V(m) that the Shapley split measures.
"""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from mmattn.model import AVModel
from mmattn.types import Batch, Tokens


class ModalityBalance:
    """May add terms to the loss, and change the next optimizer step.

    `sums` are summed over the batches of a step and over processes before `before_step` reads them.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def terms(self, model: AVModel, video: Tokens, audio: Tokens, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms to add to the loss, by name."""
        return {}

    def before_step(self, model: AVModel, optimizer: Optimizer, step: int) -> dict[str, float]:
        """Change gradients or learning rates in place; returns values to log."""
        return {}
