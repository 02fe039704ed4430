"""Tagging: what each stream says of each tag, added up. Free tags stand alone; exclusive groups share a softmax.

A question is a free tag or an exclusive group; each has its own attention over each stream (after Query2Label, Liu et
al. 2021). The streams' logits are added and nothing else happens between them here: a late fusion is exactly the sum
of unimodal classifiers, so what another fusion adds is its own.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmattn.data.labels import TagVocabulary
from mmattn.errors import UsageError
from mmattn.tasks.interface import Task
from mmattn.tasks.pooling import QuestionPool
from mmattn.types import MODALITIES, Batch, Fused, Modality, Tokens


class Tagging(Task):
    """Scores for the K tags of a vocabulary. `label_smoothing` in [0, 1) applies to exclusive groups."""

    question: Tensor

    def __init__(self, dim: int, vocabulary: TagVocabulary, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"task.label_smoothing={label_smoothing}: expected 0 up to, not including, 1")
        self.vocabulary = vocabulary
        self.label_smoothing = label_smoothing
        grouped = {i for group in vocabulary.exclusive for i in group}
        self.free = [i for i in range(len(vocabulary.names)) if i not in grouped]
        questions = [[i] for i in self.free] + [list(group) for group in vocabulary.exclusive]
        question = torch.zeros(len(vocabulary.names), dtype=torch.long)  # (K,) which question a tag belongs to
        for number, tags in enumerate(questions):
            question[tags] = number
        self.register_buffer("question", question, persistent=False)
        self.pools = nn.ModuleDict({name: QuestionPool(dim, len(questions)) for name in MODALITIES})
        self.read = nn.ParameterDict({name: torch.randn(len(question), dim) * 0.02 for name in MODALITIES})
        self.highest = nn.ModuleDict({name: nn.Linear(dim, len(question), bias=False) for name in MODALITIES})
        self.bias = nn.Parameter(torch.zeros(len(question)))

    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        return self._says("video", fused.video) + self._says("audio", fused.audio) + self.bias

    def reads(self, fused: Fused) -> dict[Modality, Float[Tensor, "B K L"]]:
        """How much each tag reads of each token of the fused streams: its question's attention."""
        streams: dict[Modality, Tokens] = {"video": fused.video, "audio": fused.audio}
        return {
            name: cast(QuestionPool, self.pools[name]).weights(tokens)[:, self.question]
            for name, tokens in streams.items()
        }

    def _says(self, name: str, tokens: Tokens) -> Float[Tensor, "B K"]:
        read, highest = self.pools[name](tokens)
        by_tag = read[:, self.question]  # (B, K, D)
        return (by_tag * self.read[name]).sum(dim=-1) + self.highest[name](highest)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """The mean over questions: a free tag is a binary one, an exclusive group one of many.

        Targets in between 0 and 1 (mixup) weigh the answers; those of a group are shares of their sum. A clip without
        any tag of a group has no answer to its question and stays out of it, as clips that are not real stay out of
        all. A batch without a real clip has loss 0.
        """
        logits, targets, real = logits.float(), batch.targets["tags"], batch.real
        terms = []
        if self.free:
            free = binary_cross_entropy_with_logits(logits[:, self.free], targets[:, self.free], reduction="none")
            terms += list((free * real[:, None]).sum(dim=0) / real.sum().clamp(min=1))
        for group in self.vocabulary.exclusive:
            answers = targets[:, list(group)]
            total = answers.sum(dim=1, keepdim=True)
            asked = (total[:, 0] > 0) & real
            losses = cross_entropy(
                logits[:, list(group)],
                answers / total.where(total > 0, 1.0),
                label_smoothing=self.label_smoothing,
                reduction="none",
            )
            terms.append((losses * asked).sum() / asked.sum().clamp(min=1))
        return {"loss": torch.stack(terms).mean()}

    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        scores = torch.sigmoid(logits.float())
        for group in self.vocabulary.exclusive:
            scores[:, list(group)] = torch.softmax(logits[:, list(group)].float(), dim=1)
        return scores
