"""Turns scores over time into segments: when a class is present, and its highest score in that time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """[`start`, `end`) in seconds and the highest score in it."""

    start: float
    end: float
    score: float


class Segments:
    """Collects the segments of each class, step by step. Memory grows only with the segments found.

    Steps of a class become one segment if the gap between them is less than `gap_s` seconds.
    """

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s
        self._found: dict[int, list[Segment]] = defaultdict(list)

    def add(self, scores: Float[Tensor, "S K"], present: Bool[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """Add the next S steps in order. Step i covers [bounds[i], bounds[i + 1]) s."""
        for step, label in present.nonzero().tolist():
            here = Segment(bounds[step], bounds[step + 1], float(scores[step, label]))
            before = self._found[label]
            if before and here.start - before[-1].end < self.gap_s:
                before[-1] = Segment(before[-1].start, here.end, max(before[-1].score, here.score))
            else:
                before.append(here)

    def best(self) -> dict[int, list[Segment]]:
        """The segments of each class in time order, with the class of the highest score first."""
        return dict(sorted(self._found.items(), key=lambda found: -max(segment.score for segment in found[1])))
