"""Parallel coordinates: an axis for each setting of a sweep and one for the score, a line a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mmattn.reports.page.charts import svg
from mmattn.reports.page.charts.scatter import shortened
from mmattn.reports.text import short

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 6.0, 92.0, 34.0, 236.0, 250
_LOG_FROM = 20  # the ratio of the largest to the smallest value from which an axis is logarithmic
_MOST_LABELS = 8  # of an axis of words


@dataclass(frozen=True)
class Axis:
    """A setting with its value in each run; numbers get a scale, anything else evenly spaced places."""

    name: str
    values: Sequence[str]

    def places(self) -> tuple[list[float], list[tuple[float, str]]]:
        """The height of each run's value in px, and the labels of the axis."""
        try:
            numbers = [float(value) for value in self.values]
            low, high = min(numbers), max(numbers)
            scale = svg.Scale(low, high, _BOTTOM, _TOP, log=low > 0 and high / low >= _LOG_FROM)
            distinct = sorted(set(numbers))
            marks = distinct if len(distinct) <= _MOST_LABELS else [low, high]
            return [scale(number) for number in numbers], [(scale(mark), short(mark)) for mark in marks]
        except ValueError:  # words
            words = sorted(set(self.values))
            scale = svg.Scale(0, max(1, len(words) - 1), _BOTTOM, _TOP)
            labels = [(scale(i), word) for i, word in enumerate(words)]
            return [scale(words.index(value)) for value in self.values], labels[:: -(-len(labels) // _MOST_LABELS)]


def parallel(names: Sequence[str], axes: Sequence[Axis]) -> Markup:
    """A line for each run (in the order of the page) through its value on every axis; the last axis is the score."""
    step = (_RIGHT - _LEFT) / max(1, len(axes) - 1)
    heights, body, points = [], "", ""
    for k, axis in enumerate(axes):
        x = _LEFT + k * step
        own, labels = axis.places()
        heights.append(own)
        body += f'<line class="axis" x1="{x:.2f}%" x2="{x:.2f}%" y1="{_TOP}" y2="{_BOTTOM}"/>'
        body += svg.text_at(x, 14 if k % 2 else 26, shortened(axis.name, 2 * step), "small middle")
        points += "".join(
            svg.text_at(x, round(y + 4, 1), shortened(text, step), "num small", dx=5) for y, text in labels
        )
    for run in reversed(range(len(names))):  # the first runs on top
        places = " ".join(f"{_LEFT + k * step:.2f},{own[run]:.1f}" for k, own in enumerate(heights))
        shape = f'<g class="line {svg.run_class(run)}"><polyline points="{places}"/></g>'
        body += _stretched(svg.titled(names[run], shape, run=run))
    label = f"{', '.join(axis.name for axis in axes)} of each run"
    return svg.svg(_HEIGHT, body + points, label)


def _stretched(shape: str) -> str:
    """Across in per cent, down in px."""
    size = f'x="0" y="0" width="100%" height="{_HEIGHT}" viewBox="0 0 100 {_HEIGHT}"'
    return f'<svg {size} preserveAspectRatio="none" class="plot">{shape}</svg>'
