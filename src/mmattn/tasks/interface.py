"""What a task is: it turns a fused clip into a loss in training and into scores in use."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.types import MODALITIES, Batch, Fused, Modality


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


class NoTags(Task):
    """The task of a model that only captions: no output at all, K = 0."""

    def __init__(self, vocabulary: TagVocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        return fused.video.values.new_zeros(len(fused.video.keep), 0)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.zeros((), device=logits.device)}

    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return logits.float()

    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        streams = {"video": fused.video, "audio": fused.audio}
        return {
            name: streams[name].values.new_zeros(*streams[name].keep[:, None, :].expand(-1, 0, -1).shape)
            for name in MODALITIES
        }
