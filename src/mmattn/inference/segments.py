"""Scores over time become segments: when a class was there, and how sure that was at its surest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """[start, end) in s; the highest score in it."""

    start: float
    end: float
    score: float


class Segments:
    """Classes that reach `threshold`, gathered step by step with memory for those alone.

    Steps of a class that touch, or leave out less than `gap_s`, are one segment.
    """

    def __init__(self, threshold: float, gap_s: float) -> None:
        self.threshold = threshold
        self.gap_s = gap_s
        self._found: dict[int, list[Segment]] = defaultdict(list)

    def add(self, scores: Float[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """The next S steps, in order; step i stands for [bounds[i], bounds[i + 1]) s."""
        for step, label in (scores >= self.threshold).nonzero().tolist():
            here = Segment(bounds[step], bounds[step + 1], float(scores[step, label]))
            before = self._found[label]
            if before and here.start - before[-1].end < self.gap_s:
                before[-1] = Segment(before[-1].start, here.end, max(before[-1].score, here.score))
            else:
                before.append(here)

    def best(self) -> dict[int, list[Segment]]:
        """Of each class, its segments in time; the class with the highest score first."""
        return dict(sorted(self._found.items(), key=lambda found: -max(segment.score for segment in found[1])))
