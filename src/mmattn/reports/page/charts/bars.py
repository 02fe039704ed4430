"""Bars and intervals: Shapley splits, attention shares, scores with their intervals."""

from __future__ import annotations

from markupsafe import Markup

from mmattn.reports.collect.records import Number
from mmattn.reports.page.charts import svg
from mmattn.reports.statistics.comparison import Estimate
from mmattn.reports.text import fixed, percent, signed

_BAR = 14  # px


def split_bars(video: Number, audio: Number, synergy: Number, low: float, high: float) -> Markup:
    """Picture, sound and synergy as bars to the right (helps) and left (harms) of zero, on the scale [low, high]."""
    rows = []
    at = svg.Scale(low, high, 32.0, 86.0)  # names and numbers take the rest of the width
    for i, (name, value) in enumerate((("picture", video), ("sound", audio), ("synergy", synergy))):
        y = 2 + i * (_BAR + 4)
        end = at(value or 0.0)
        negative = (value or 0.0) < 0
        number = svg.text_at(end, y + 11, signed(value), "num end" if negative else "num", dx=-6 if negative else 6)
        bar = svg.text_at(0, y + 11, name, "label") + _bar(name, at(0.0), end, y, _BAR) + number
        rows.append(svg.titled(f"{name}: {signed(value, 3)}", bar))
    height = 3 * (_BAR + 4) + 2
    rows.append(_mark("axis", at(0.0), height))
    return svg.svg(height, "".join(rows), f"{_pair(video, audio)}, synergy {signed(synergy)}")


def tag_bars(video: Number, audio: Number) -> Markup:
    """What picture and sound add to one tag's score, as small bars on the scale [-0.4, 1]."""
    at = svg.Scale(-0.4, 1.0, 0.0, 98.0)
    bars = [
        _bar(name, at(0.0), at(value or 0.0), y, 5) for y, name, value in ((1, "picture", video), (8, "sound", audio))
    ]
    return svg.svg(14, "".join(bars) + _mark("axis", at(0.0), 14), _pair(video, audio))


def mass_bar(mass: float, prior: float) -> Markup:
    """Attention shared between sound and picture; the tick is where uniform attention would put the border."""
    at = svg.Scale(0.0, 1.0, 0.0, 100.0)
    bars = _bar("sound", 0.0, at(mass), 2, 12) + _bar("picture", at(mass), 100.0, 2, 12) + _mark("tick", at(prior), 16)
    title = f"sound {percent(mass)}, picture {percent(1 - mass)}; uniform attention: sound {percent(prior)}"
    return svg.svg(16, svg.titled(title, bars), title)


def whisker(estimate: Estimate, low: float, high: float) -> Markup:
    """A score, its interval and the score of each seed on the scale [low, high] that all rows share."""
    at = svg.Scale(low, high, 2.0, 98.0)
    style, over = ("interval", "clips and seeds") if estimate.tested else ("interval clips", "clips only")
    body = f'<line class="{style}" x1="{at(estimate.low):.2f}%" x2="{at(estimate.high):.2f}%" y1="8" y2="8"/>'
    if len(estimate.seeds) > 1:
        body += "".join(f'<circle class="seed" cx="{at(seed):.2f}%" cy="8" r="2.5"/>' for seed in estimate.seeds)
    body += f'<circle class="dot" cx="{at(estimate.value):.2f}%" cy="8" r="3.5"/>'
    title = f"{fixed(estimate.value)}, 95 % over {over} from {fixed(estimate.low)} to {fixed(estimate.high)}"
    return svg.svg(16, body, title)


def _bar(css: str, start: float, end: float, y: float, height: float) -> str:
    """A bar between two places in per cent."""
    left, width = min(start, end), abs(end - start)
    return f'<rect class="bar {css}" x="{left:.2f}%" y="{y}" width="{width:.2f}%" height="{height}"/>'


def _mark(css: str, x: float, height: float) -> str:
    return f'<line class="{css}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height}"/>'


def _pair(video: Number, audio: Number) -> str:
    return f"picture {signed(video)}, sound {signed(audio)}"
