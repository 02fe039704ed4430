"""Tagging: the logit of a tag is the sum of a logit from each stream.

A question is a free tag or an exclusive group; each has its own attention over each stream (after Query2Label, Liu et
al. 2021). The task adds the streams' logits and does not combine them otherwise: a late fusion is exactly the sum of
unimodal classifiers, so any gain of another fusion is due to that fusion.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.data.manifest.labels import TagVocabulary
from mmattn.tasks.tagging.class_weights import ClassWeights
from mmattn.tasks.tagging.losses import TagLoss
from mmattn.tasks.tagging.pooling import QuestionPool
from mmattn.tasks.tagging.tag_task import TagTask
from mmattn.types import MODALITIES, Fused, Modality, Tokens


class Tagging(TagTask):
    """A row of weights for each tag. For the settings see TagTask."""

    question: Tensor

    def __init__(
        self,
        dim: int,
        vocabulary: TagVocabulary,
        label_smoothing: float = 0.0,
        loss: TagLoss | None = None,
        class_weights: ClassWeights = "none",
        effective_beta: float = 0.999,
        calibrate: str | float = "none",
    ) -> None:
        super().__init__(vocabulary, label_smoothing, loss, class_weights, effective_beta, calibrate)
        questions = [[i] for i in self.free] + [list(group) for group in vocabulary.exclusive]
        question = torch.zeros(len(vocabulary.names), dtype=torch.long)  # (K,) the question of each tag
        for number, tags in enumerate(questions):
            question[tags] = number
        self.register_buffer("question", question, persistent=False)
        self.pools = nn.ModuleDict({name: QuestionPool(dim, len(questions)) for name in MODALITIES})
        self.read = nn.ParameterDict({name: torch.randn(len(question), dim) * 0.02 for name in MODALITIES})
        self.highest = nn.ModuleDict({name: nn.Linear(dim, len(question), bias=False) for name in MODALITIES})
        self.bias = nn.Parameter(torch.zeros(len(question)))

    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        return self._logits("video", fused.video) + self._logits("audio", fused.audio) + self.bias

    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        """The attention of each tag's question on each token of the fused streams."""
        streams: dict[Modality, Tokens] = {"video": fused.video, "audio": fused.audio}
        return {
            name: cast(QuestionPool, self.pools[name]).weights(tokens)[:, self.question]
            for name, tokens in streams.items()
        }

    def _logits(self, name: str, tokens: Tokens) -> Float[Tensor, "B K"]:
        read, highest = self.pools[name](tokens)
        by_tag = read[:, self.question]  # (B, K, D)
        return (by_tag * self.read[name]).sum(dim=-1) + self.highest[name](highest)
