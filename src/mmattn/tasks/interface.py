"""What a task is: it turns a fused clip into a loss in training and into scores in use."""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.types import Batch, Fused, Modality


class Task(nn.Module):
    """`vocabulary`: the tags that the K outputs stand for."""

    vocabulary: TagVocabulary

    @abstractmethod
    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        """Raw outputs (logits)."""

    @abstractmethod
    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """Terms to log; `loss` is the one to minimise."""

    @abstractmethod
    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """What a person is shown, in [0, 1]."""

    @abstractmethod
    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        """What each output reads of each token of the fused streams, where attention says so; sums to 1."""

    def thresholds(self, scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> dict[str, float]:
        """From which score on to list each tag that stands alone, chosen from these clips; none where it is not."""
        return {}
