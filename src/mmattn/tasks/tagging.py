"""Tagging: a linear head over the summary. Free tags stand alone (sigmoid); exclusive groups share a softmax.

Linear on purpose: a late fusion under it is exactly an average of unimodal logits, so what a fusion adds is its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmattn.data.labels import TagVocabulary
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused


class Tagging(Task):
    """Scores for the tags of a vocabulary. `label_smoothing` in [0, 1) applies to exclusive groups."""

    def __init__(self, dim: int, vocabulary: TagVocabulary, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.label_smoothing = label_smoothing
        self.head = nn.Linear(dim, len(vocabulary.names))
        grouped = {i for group in vocabulary.exclusive for i in group}
        self.free = [i for i in range(len(vocabulary.names)) if i not in grouped]

    def forward(self, fused: Fused) -> Float[Tensor, "B K"]:
        return self.head(fused.summary)

    def loss(self, logits: Float[Tensor, "B K"], batch: Batch) -> dict[str, Tensor]:
        """The mean over free tags (each a binary question) and exclusive groups (each one question)."""
        logits, targets = logits.float(), batch.targets["tags"]
        terms = []
        if self.free:
            free = binary_cross_entropy_with_logits(logits[:, self.free], targets[:, self.free], reduction="none")
            terms += list(free.mean(dim=0))
        for group in self.vocabulary.exclusive:
            chosen = targets[:, list(group)].argmax(dim=1)
            terms.append(cross_entropy(logits[:, list(group)], chosen, label_smoothing=self.label_smoothing))
        return {"loss": torch.stack(terms).mean()}

    def scores(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        scores = torch.sigmoid(logits.float())
        for group in self.vocabulary.exclusive:
            scores[:, list(group)] = torch.softmax(logits[:, list(group)].float(), dim=1)
        return scores
