"""Scores of each step become tags with times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmattn.inference.annotators.interface import STEP_S
from mmattn.inference.predictor.segments import Segments
from mmattn.types import MODALITIES, Modality


class TagFinder:
    """The tags of one annotator, of one modality, that reach `threshold` in some step of a file."""

    def __init__(self, annotator: str, names: Sequence[str], modality: Modality, threshold: float) -> None:
        self.annotator, self.names, self.modality, self.threshold = annotator, names, modality, threshold
        self.end = 0.0
        self.used = False
        self._segments = Segments(1.1 * STEP_S)

    def add(self, scores: Float[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """The next S steps; step i stands for [bounds[i], bounds[i + 1]) s."""
        self._segments.add(scores, scores >= self.threshold, bounds)
        self.end, self.used = max(self.end, bounds[-1]), True

    def tags(self) -> list[dict[str, Any]]:
        found = []
        for label, segments in self._segments.best().items():
            score = round(max(segment.score for segment in segments), 4)
            found.append(
                {
                    "tag": self.names[label],
                    "score": score,
                    "modality": self.modality,
                    "from": self.annotator,
                    **{name: score if name == self.modality else 0.0 for name in MODALITIES},
                    "synergy": 0.0,
                    "segments": [[round(segment.start, 2), round(segment.end, 2)] for segment in segments],
                }
            )
        return found
