"""Score against cost, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from mmattn.reports.page.charts import svg
from mmattn.reports.text import fixed, short

_CHARACTER = 2.3  # per cent of the narrowest card that a character takes


@dataclass(frozen=True)
class CostPoint:
    """One run: `run` is its place on the page, `x` its cost (above 0), `y` its score."""

    run: int
    name: str
    x: float
    y: float


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The Pareto front: no other point is at most as expensive, scores at least as high, and is better in one."""
    return sorted(
        (p for p in points if not any(q.x <= p.x and q.y >= p.y and (q.x < p.x or q.y > p.y) for q in points)),
        key=lambda p: (p.x, p.y),
    )


def scatter(points: Sequence[CostPoint], across: str, up: str) -> Markup:
    """Score against cost (logarithmic); the Pareto front is joined by steps and named."""
    x_of = svg.Scale(*_padded_log([p.x for p in points]), svg.LEFT, svg.RIGHT, log=True)
    y_of = svg.Scale(*svg.padded([p.y for p in points]), svg.BOTTOM, svg.TOP)
    body = svg.frame(up, [(y_of(v), f"{v:g}") for v in svg.ticks(y_of.low, y_of.high)], across,
                     [(x_of(v), short(v)) for v in svg.log_ticks(x_of.low, x_of.high)])  # fmt: skip
    best = front(points)
    places = [(x_of(p.x), y_of(p.y)) for p in points]
    for (x0, y0), (x1, y1) in pairwise((x_of(p.x), y_of(p.y)) for p in best):
        body += f'<line class="front" x1="{x0:.2f}%" x2="{x1:.2f}%" y1="{y0:.1f}" y2="{y0:.1f}"/>'
        body += f'<line class="front" x1="{x1:.2f}%" x2="{x1:.2f}%" y1="{y0:.1f}" y2="{y1:.1f}"/>'
    for k, (p, (x, y)) in enumerate(zip(points, places, strict=True)):
        below = sum(abs(other_x - x) < 1.5 and abs(other_y - y) < 5 for other_x, other_y in places[:k])
        css = f"{'ring' if below else 'dot'} {svg.run_class(p.run)}{' on-front' if p in best else ''}"
        dot = f'<circle class="{css}" cx="{x:.2f}%" cy="{y:.1f}" r="{5 + 3 * below}"/>'  # a ring around what it hides
        body += svg.titled(f"{p.name}: {fixed(p.y)} at {short(p.x)}", dot, run=p.run)
    body += _names([(x_of(p.x), y_of(p.y), p.name) for p in best])
    return svg.svg(svg.HEIGHT, body, f"{up} against {across}; best for their cost: {', '.join(p.name for p in best)}")


def _names(points: Sequence[tuple[float, float, str]]) -> str:
    """Labels of points (x, y, name) that stay inside the chart and off each other."""
    body, placed = "", []
    for x, y, name in points:
        to_left = x > 55
        y = max(y - 8, 10.0)
        while any(abs(y - other) < 12 and abs(x - where) < 45 for where, other in placed):
            y += 12
        placed.append((x, y))
        label = shortened(name, x - 1 if to_left else 99 - x)
        body += svg.text_at(x, round(y, 1), label, "small end" if to_left else "small", dx=-4 if to_left else 4)
    return body


def shortened(name: str, room: float) -> str:
    """A name that fits into `room` per cent of a narrow card; the tooltip has all of it."""
    most = max(3, int(room / _CHARACTER))
    return name if len(name) <= most else f"{name[: most - 1]}\u2026"


def _padded_log(values: Sequence[float]) -> tuple[float, float]:
    low, high = svg.padded([math.log(value) for value in values])
    if high - low <= 0.2:
        low, high = (low + high) / 2 - 0.1, (low + high) / 2 + 0.1
    return math.exp(low), math.exp(high)
