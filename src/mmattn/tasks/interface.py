"""What a task is: it turns a fused clip into a loss in training and into scores at inference."""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.types import Batch, Fused, Modality


class Task(nn.Module):
    """`vocabulary`: the tags of the K outputs."""

    vocabulary: TagVocabulary

    @abstractmethod
    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        """Raw outputs (logits)."""

    @abstractmethod
    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise."""

    @abstractmethod
    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """The scores to report, in [0, 1]."""

    @abstractmethod
    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        """The attention of each output on each token of the fused streams; sums to 1 over a stream."""

    def thresholds(self, scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> dict[str, float]:
        """Thresholds of free tags, calibrated on these clips; a tag without one is left out."""
        return {}
