"""Scores over time become segments."""

from __future__ import annotations

import pytest
import torch

from mmattn.inference.records.segments import Segment, Segments


def _of(rows: list[list[float]], threshold: float = 0.5, parts: int = 1) -> dict[int, list[Segment]]:
    """Steps of 1 s, given in so many parts."""
    segments = Segments(gap_s=1.1)
    for part in torch.arange(len(rows)).chunk(parts):
        bounds = [float(step) for step in part] + [float(part[-1]) + 1]
        scores = torch.tensor([rows[int(step)] for step in part])
        segments.add(scores, scores >= threshold, bounds)
    return segments.best()


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_steps_that_touch_or_leave_out_one_are_one_segment(parts: int) -> None:
    found = _of([[0.6], [0.9], [0.1], [0.7], [0.1], [0.1], [0.1], [0.5]], parts=parts)
    assert [(s.start, s.end) for s in found[0]] == [(0, 4), (7, 8)]
    assert [s.score for s in found[0]] == pytest.approx([0.9, 0.5])


def test_the_surest_class_comes_first_and_what_stays_below_is_not_there() -> None:
    found = _of([[0.6, 0.95, 0.4], [0.9, 0.2, 0.49]])
    assert list(found) == [1, 0]


def test_nothing_is_found_in_nothing() -> None:
    assert _of([[0.1, 0.2]]) == {}
