"""The parts that all charts are made of.

Lengths across are in per cent and down in px, so text keeps its size on every screen. Every text is cleaned and
escaped here; all else is numbers and class names. Colours are classes of the page's style sheet. What belongs to one
run has `data-run`, its place on the page, by which the page's script highlights it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mmattn.reports.text import clean

RUN_STYLES = 6
LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 12.0, 97.0, 12.0, 168.0, 200  # the plot's frame: per cent across, px down
_STEPS = (1, 2, 5)


def run_class(index: int) -> str:
    """The first few runs have a style each; the others are grey until they are highlighted."""
    return f"run{index}" if index < RUN_STYLES else "rest"


def svg(height: float, body: str, label: str) -> Markup:
    """A chart of the full width; `label` describes it in words."""
    head = f'<svg class="chart" role="img" aria-label="{escape(clean(label))}" width="100%" height="{height}">'
    return Markup(f"{head}{body}</svg>")


def text_at(x: float, y: float, text: str, css: str, dx: int = 0) -> str:
    """`text`, cleaned and escaped, at `x` per cent and `y` px."""
    return f'<text class="{css}" x="{x:.2f}%" y="{y:g}" dx="{dx}">{escape(clean(text))}</text>'


def titled(title: str, body: str, run: int | None = None) -> str:
    """`body` with a tooltip; `run`: the place on the page of the run that it shows."""
    of = "" if run is None else f' data-run="{run:d}"'
    return f"<g{of}><title>{escape(clean(title))}</title>{body}</g>"


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] to [start, end]; logarithmic with `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / ((high - low) or 1.0)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


def frame(up: str, rows: Sequence[tuple[float, str]], across: str, columns: Sequence[tuple[float, str]]) -> str:
    """Grid lines with their labels (place, text), and the names of both axes."""
    body = ""
    for y, label in rows:
        body += f'<line class="grid" x1="{LEFT}%" x2="{RIGHT}%" y1="{y:.1f}" y2="{y:.1f}"/>'
        body += text_at(LEFT - 1.5, round(y + 4, 1), label, "num end small")
    body += "".join(text_at(x, BOTTOM + 14, label, "num middle small") for x, label in columns)
    return body + text_at(RIGHT, HEIGHT - 3, across, "small end") + text_at(LEFT, HEIGHT - 3, f"\u2191 {up}", "small")


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with some room at both ends."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or max(0.02, 0.02 * abs(high))
    return low - room, high + room


def ticks(low: float, high: float) -> list[float]:
    """At most six round numbers between both."""
    step = next(s for e in range(-9, 12) for t in _STEPS if (high - low) / (s := t * 10.0**e) <= 5)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between both for a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [t * 10.0**e for e in powers for t in _STEPS if low <= t * 10.0**e <= high]
    if len(found) >= 2:
        return found[:: -(-len(found) // 6)]
    return [value for value in ticks(low, high) if value > 0][:6]
