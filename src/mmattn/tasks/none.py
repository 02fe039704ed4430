"""No tags: for a model that only captions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.tasks.interface import Task
from mmattn.types import MODALITIES, Batch, Fused, Modality


class NoTags(Task):
    """The task of a model that only captions: no outputs, K = 0."""

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
