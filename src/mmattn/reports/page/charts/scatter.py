"""Plots over many runs as inline SVG: scores with intervals, score against cost, lines over a quantity.

As in charts.py: across in per cent, down in px, colours are classes, every text is cleaned and escaped. What belongs to
one run carries `data-run`, so that the page's script can bring it out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from mmattn.reports.collect.runs import Number
from mmattn.reports.page.charts.bars import group_of, run_class, svg, text_at
from mmattn.reports.statistics.comparison import Estimate
from mmattn.reports.text import fixed

_LEFT, _RIGHT, _TOP, _BOTTOM = 12.0, 97.0, 12.0, 168.0  # the plot's frame: per cent across, px down
_HEIGHT = 200
_TICKS = (1, 2, 5)
_CHARACTER = 2.3  # per cent of the narrowest card that a character takes


@dataclass(frozen=True)
class CostPoint:
    """One run: `run` is its place on the page."""

    run: int
    name: str
    x: float
    y: float


def whisker(estimate: Estimate, low: float, high: float) -> Markup:
    """A score, its interval and the score of each seed on the scale [low, high] that all rows share."""
    unit = 96 / ((high - low) or 1.0)

    def at(value: float) -> float:
        return min(98.0, max(2.0, 2 + unit * (value - low)))

    x, left, right = (at(value) for value in (estimate.value, estimate.low, estimate.high))
    style = "interval" if estimate.tested else "interval clips"
    body = f'<line class="{style}" x1="{left:.2f}%" x2="{right:.2f}%" y1="8" y2="8"/>'
    if len(estimate.seeds) > 1:
        body += "".join(f'<circle class="seed" cx="{at(value):.2f}%" cy="8" r="2.5"/>' for value in estimate.seeds)
    body += f'<circle class="dot" cx="{x:.2f}%" cy="8" r="3.5"/>'
    over = "clips and seeds" if estimate.tested else "clips only"
    title = f"{fixed(estimate.value)}, 95 % over {over} from {fixed(estimate.low)} to {fixed(estimate.high)}"
    return svg(16, body, title)


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Those for which no other is cheaper or as cheap, scores as high or higher, and is better in one (Pareto)."""
    return sorted(
        (p for p in points if not any(q.x <= p.x and q.y >= p.y and (q.x < p.x or q.y > p.y) for q in points)),
        key=lambda p: (p.x, p.y),
    )


def scatter(points: Sequence[CostPoint], across: str, up: str) -> Markup:
    """Score against cost (logarithmic), the Pareto front joined by steps and named."""
    low, high = _padded_log([p.x for p in points])
    bottom, top = _padded([p.y for p in points])

    def x_of(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (math.log(value) - low) / (high - low)

    def y_of(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - bottom) / (top - bottom)

    body = _frame(up, [(y_of(v), f"{v:g}") for v in _ticks(bottom, top)], across,
                  [(x_of(v), _short(v)) for v in _log_ticks(low, high)])  # fmt: skip
    best = front(points)
    for before, after in pairwise(best):
        x0, x1, y0, y1 = x_of(before.x), x_of(after.x), y_of(before.y), y_of(after.y)
        body += f'<line class="front" x1="{x0:.2f}%" x2="{x1:.2f}%" y1="{y0:.1f}" y2="{y0:.1f}"/>'
        body += f'<line class="front" x1="{x1:.2f}%" x2="{x1:.2f}%" y1="{y0:.1f}" y2="{y1:.1f}"/>'
    for k, p in enumerate(points):
        x, y = x_of(p.x), y_of(p.y)
        below = sum(abs(x_of(q.x) - x) < 1.5 and abs(y_of(q.y) - y) < 5 for q in points[:k])  # would be hidden
        kind = "ring" if below else "dot"
        chosen = " on-front" if p in best else ""
        dot = f'<circle class="{kind} {run_class(p.run)}{chosen}" cx="{x:.2f}%" cy="{y:.1f}" r="{5 + 3 * below}"/>'
        body += group_of(f"{p.name}: {fixed(p.y)} at {_short(p.x)}", dot, run=p.run)
    placed: list[tuple[float, float]] = []
    for p in best:
        x, y = x_of(p.x), y_of(p.y)
        end = x > 55
        name = shortened(p.name, x - 1 if end else 99 - x)
        at = max(y - 8, 10.0)
        while any(abs(at - other) < 12 and abs(x - where) < 45 for where, other in placed):
            at += 12
        placed.append((x, at))
        body += text_at(f"{x:.2f}%", at, name, "small end" if end else "small", dx=-4 if end else 4)
    return svg(_HEIGHT, body, f"{up} against {across}; best for their cost: {', '.join(p.name for p in best)}")


def shortened(name: str, room: float) -> str:
    """A name that fits into so many per cent of a narrow card; the tip has all of it."""
    most = max(3, int(room / _CHARACTER))
    return name if len(name) <= most else f"{name[: most - 1]}\u2026"


def lines(series: Sequence[tuple[int, str, Sequence[tuple[float, float]]]], across: str, up: str) -> Markup:
    """A line of points a run, with a dot at each: scores over noise, operations over length."""
    points = [point for _, _, line in series for point in line]
    if not points:
        return Markup("")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    bottom, top = _padded([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        share = (x - left) / ((right - left) or 1.0)
        return _LEFT + 2 + (_RIGHT - _LEFT - 4) * share, _BOTTOM - (_BOTTOM - _TOP) * (y - bottom) / (top - bottom)

    marks = sorted({x for x, _ in points})
    body = _frame(up, [(place(left, v)[1], f"{v:g}") for v in _ticks(bottom, top)], across,
                  [(place(v, bottom)[0], f"{v:g}") for v in marks[:: -(-len(marks) // 8)]])  # fmt: skip
    for run, name, line in sorted(series, key=lambda one: -one[0]):  # the first ones on top
        shape = ""
        placed = [place(x, y) for x, y in sorted(line)]
        for (x0, y0), (x1, y1) in pairwise(placed):
            shape += f'<line class="stroke" x1="{x0:.2f}%" x2="{x1:.2f}%" y1="{y0:.1f}" y2="{y1:.1f}"/>'
        shape += "".join(f'<circle class="dot" cx="{x:.2f}%" cy="{y:.1f}" r="3"/>' for x, y in placed)
        body += group_of(name, f'<g class="line {run_class(run)}">{shape}</g>', run=run)
    return svg(_HEIGHT, body, f"{up} over {across}")


def _frame(up: str, rows: Sequence[tuple[float, str]], across: str, columns: Sequence[tuple[float, str]]) -> str:
    body = ""
    for y, label in rows:
        body += f'<line class="grid" x1="{_LEFT}%" x2="{_RIGHT}%" y1="{y:.1f}" y2="{y:.1f}"/>'
        body += text_at(f"{_LEFT - 1.5}%", y + 4, label, "num end small")
    for x, label in columns:
        body += text_at(f"{x:.2f}%", _BOTTOM + 14, label, "num middle small")
    body += text_at(f"{_RIGHT}%", _HEIGHT - 3, across, "small end")
    return body + text_at(f"{_LEFT}%", _HEIGHT - 3, f"\u2191 {up}", "small")


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or max(0.02, 0.02 * abs(high))
    return low - room, high + room


def _padded_log(values: Sequence[float]) -> tuple[float, float]:
    low, high = _padded([math.log(value) for value in values])
    return (low, high) if high - low > 0.2 else ((low + high) / 2 - 0.1, (low + high) / 2 + 0.1)


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for e in range(-9, 12) for t in _TICKS if (high - low) / (s := t * 10.0**e) <= 5)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between both, few enough to be read."""
    start, end = math.exp(low), math.exp(high)
    powers = range(math.floor(math.log10(start)), math.ceil(math.log10(end)) + 1)
    found = [t * 10.0**e for e in powers for t in _TICKS if start <= t * 10.0**e <= end]
    if len(found) >= 2:
        return found[:: -(-len(found) // 6)]
    return [value for value in _ticks(start, end) if value > 0][:6]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def heat_level(value: Number, low: float, high: float) -> int:
    """0 to 9: how deep a cell is coloured; 0 for nothing."""
    if value is None:
        return 0
    return 1 + round(8 * (value - low) / ((high - low) or 1.0))
