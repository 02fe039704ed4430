"""Answers over time become segments: when a class was there, and how sure that was at its surest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.errors import MediaError
from mmattn.types import Clip


@dataclass(frozen=True)
class Segment:
    """[start, end) in s; the highest score in it."""

    start: float
    end: float
    score: float


class Segments:
    """When each class was there, gathered step by step with memory for those alone.

    Steps of a class that touch, or leave out less than `gap_s`, are one segment.
    """

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s
        self._found: dict[int, list[Segment]] = defaultdict(list)

    def add(self, scores: Float[Tensor, "S K"], there: Bool[Tensor, "S K"], bounds: Sequence[float]) -> None:
        """The next S steps, in order; step i stands for [bounds[i], bounds[i + 1]) s."""
        for step, label in there.nonzero().tolist():
            here = Segment(bounds[step], bounds[step + 1], float(scores[step, label]))
            before = self._found[label]
            if before and here.start - before[-1].end < self.gap_s:
                before[-1] = Segment(before[-1].start, here.end, max(before[-1].score, here.score))
            else:
                before.append(here)

    def best(self) -> dict[int, list[Segment]]:
        """Of each class, its segments in time; the class with the highest score first."""
        return dict(sorted(self._found.items(), key=lambda found: -max(segment.score for segment in found[1])))


def until_error(windows: Iterator[Clip], issues: set[str]) -> Iterator[tuple[Clip, bool]]:
    """The windows that could be read, and whether each is the last. The first one's error is raised, others noted."""
    before = next(windows)
    try:
        for clip in windows:
            yield before, False
            before = clip
    except MediaError as error:
        issues.add(f"span_{error.reason}")
    yield before, True
