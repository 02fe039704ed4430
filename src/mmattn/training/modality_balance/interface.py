"""Options against one modality starving the other in joint training. None is on by default: report, don't force.

What a modality says alone is what the model says on its missing-modality path: it works with every fusion and adds no
weights, and it is the V(m) that the Shapley split will measure.
"""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from mmattn.model import AVModel
from mmattn.types import Batch, Tokens


class ModalityBalance:
    """What a balancing option may do: add terms to the loss, and change the step that is about to be taken.

    `sums` are added up over a step's batches and over processes before `before_step` reads them.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def terms(self, model: AVModel, video: Tokens, audio: Tokens, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms to add to the loss, by name."""
        return {}

    def before_step(self, model: AVModel, optimizer: Optimizer, step: int) -> dict[str, float]:
        """Changes gradients or rates in place; returns numbers to log."""
        return {}
