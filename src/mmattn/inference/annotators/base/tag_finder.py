"""Scores of each step become tags with times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mmattn.inference.annotators.base.interface import STEP_S
from mmattn.inference.records.segments import Segments
from mmattn.types import MODALITIES, Modality


class TagFinder:
    """The tags of one annotator that reach `threshold` in some step of a file.

    `modality`: the one stream that it looks at; None: both, and a tag owes no known share to either.
    """

    def __init__(
        self,
        annotator: str,
        names: Sequence[str],
        modality: Modality | None,
        threshold: float,
        step_s: float = STEP_S,
    ) -> None:
        self.annotator, self.names, self.modality, self.threshold = annotator, names, modality, threshold
        self.end = 0.0
        self.used = False
        self._segments = Segments(1.1 * step_s)

    def add(self, scores: Float[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """The next S steps; step i stands for [bounds[i], bounds[i + 1]) s."""
        self._segments.add(scores, scores >= self.threshold, bounds)
        self.end, self.used = max(self.end, bounds[-1]), True

    def tags(self) -> list[dict[str, Any]]:
        found = []
        for label, segments in self._segments.best().items():
            score = round(max(segment.score for segment in segments), 4)
            whole = {name: score if name == self.modality else 0.0 for name in MODALITIES}
            found.append(
                {
                    "tag": self.names[label],
                    "score": score,
                    **({} if self.modality is None else {"modality": self.modality}),
                    "from": self.annotator,
                    **({} if self.modality is None else {**whole, "synergy": 0.0}),
                    "segments": [[round(segment.start, 2), round(segment.end, 2)] for segment in segments],
                }
            )
        return found
