"""What a task is: it turns a fused clip into a loss in training and into scores in use."""

from __future__ import annotations

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.labels import TagVocabulary
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
        """What each output reads of each token of the fused streams, where that is told by attention; sums to 1."""
