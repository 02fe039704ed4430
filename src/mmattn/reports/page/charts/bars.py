"""Small charts as inline SVG. Lengths across are in per cent and down in px, so text keeps its size on every screen.

Every text goes through `text_at`, which cleans and escapes it; all else is numbers and this module's own class names.
Colours are classes (`sound`, `picture`, `synergy`, `run0`..`run5`, `rest` for further runs) that the page's style sheet
defines once.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from mmattn.reports.collect.runs import Number
from mmattn.reports.text import clean, fixed, percent, signed

RUN_STYLES = 6
_BAR = 14  # px


def run_class(index: int) -> str:
    """The first few runs have a style each, the others are grey until they are brought out."""
    return f"run{index}" if index < RUN_STYLES else "rest"


def split_bars(video: Number, audio: Number, synergy: Number, low: float, high: float) -> Markup:
    """Picture, sound and synergy as bars to the right (helps) and left (harms) of zero, on the scale [low, high]."""
    rows = []
    unit = 54 / (high - low)  # per cent of the width; names and numbers take the rest
    zero = 32 - low * unit
    parts = (("picture", video), ("sound", audio), ("synergy", synergy))
    for i, (name, value) in enumerate(parts):
        y = 2 + i * (_BAR + 4)
        x, width = _from_zero(_clip(value, low, high), zero, unit)
        end = x if (value or 0.0) < 0 else x + width
        side = -6 if (value or 0.0) < 0 else 6
        bar = f'<rect class="bar {name}" x="{x:.2f}%" y="{y}" width="{width:.2f}%" height="{_BAR}" rx="2"/>'
        number = text_at(f"{end:.2f}%", y + 11, signed(value), "num end" if side < 0 else "num", dx=side)
        rows.append(group_of(f"{name}: {signed(value, 3)}", text_at("0", y + 11, name, "label") + bar + number))
    height = 3 * (_BAR + 4) + 2
    rows.append(f'<line class="axis" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="{height}"/>')
    title = f"picture {signed(video)}, sound {signed(audio)}, synergy {signed(synergy)}"
    return svg(height, "".join(rows), title)


def tag_bars(video: Number, audio: Number) -> Markup:
    """What picture and sound add to one tag's score, very small; the scale is [-0.4, 1]."""
    rows = []
    for y, name, value in ((1, "picture", video), (8, "sound", audio)):
        x, width = _from_zero(_clip(value, -0.4, 1.0), zero=28.0, unit=70.0)
        rows.append(f'<rect class="bar {name}" x="{x:.2f}%" y="{y}" width="{width:.2f}%" height="5" rx="1"/>')
    rows.append('<line class="axis" x1="28%" x2="28%" y1="0" y2="14"/>')
    return svg(14, "".join(rows), f"picture {signed(video)}, sound {signed(audio)}")


def mass_bar(mass: float, prior: float) -> Markup:
    """Attention shared out between picture and sound; the tick is where uniform attention would put the border."""
    share, tick = 100 * _clip(mass, 0.0, 1.0), 100 * _clip(prior, 0.0, 1.0)
    bars = f'<rect class="bar sound" x="0" y="2" width="{share:.2f}%" height="12"/>'
    bars += f'<rect class="bar picture" x="{share:.2f}%" y="2" width="{100 - share:.2f}%" height="12"/>'
    bars += f'<line class="tick" x1="{tick:.2f}%" x2="{tick:.2f}%" y1="0" y2="16"/>'
    title = f"sound {percent(mass)}, picture {percent(1 - mass)}; uniform attention: sound {percent(prior)}"
    return svg(16, group_of(title, bars), title)


def curves(
    series: Sequence[tuple[int, str, Sequence[tuple[float, float]]]],
    top: float | None = None,
    chance: Number = None,
    across: str = "epoch",
) -> Markup:
    """A line a run (index, name, points) over epochs, from 0 to `top` (None: the largest value)."""
    points = [point for _, _, line in series for point in line]
    highest = top or max((y for _, y in points), default=1.0) or 1.0
    first, last = min((x for x, _ in points), default=0.0), max((x for x, _ in points), default=1.0)
    if first == last:
        first, last = first - 1, last + 1  # in the middle
    wide = last - first or 1.0
    lines = []
    for index, name, line in sorted(series, key=lambda one: -one[0]):  # the first ones on top
        places = [(100 * (x - first) / wide, 100 - 100 * _clip(y / highest, 0.0, 1.0)) for x, y in line]
        path = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
        style = run_class(index)
        shape = f'<polyline class="curve {style}" points="{path}"/>'
        if len(places) == 1:  # a dot: a line of no length with round ends
            x, y = places[0]
            shape = f'<polyline class="curve {style} alone" points="{x:.2f},{y:.2f} {x:.2f},{y:.2f}"/>'
        lines.append(group_of(name, shape, run=index) if places else "")
    grid = "".join(f'<line class="grid" x1="0" x2="100" y1="{y}" y2="{y}"/>' for y in (0, 50, 100))
    if chance is not None:
        y = 100 - 100 * _clip(chance / highest, 0.0, 1.0)
        grid += f'<line class="chance" x1="0" x2="100" y1="{y:.2f}" y2="{y:.2f}"/>'
    plot = '<svg x="13%" y="8" width="87%" height="112" viewBox="0 0 100 100" preserveAspectRatio="none" class="plot">'
    digits, marks = (2 if highest >= 0.1 else 4), ((12, 1.0), (68, 0.5), (123, 0.0))
    labels = "".join(text_at("11%", y, fixed(highest * share, digits), "num end small") for y, share in marks)
    if len({x for x, _ in points}) == 1:
        labels += text_at("56.5%", 137, f"{across} {points[0][0]:g}", "small middle")
    else:
        labels += text_at("13%", 137, f"{across} {first:g}", "small")
        labels += text_at("100%", 137, f"{last:g}", "num end small")
    return svg(142, f"{labels}{plot}{grid}{''.join(lines)}</svg>", f"by {across}")


def _clip(value: Number, low: float, high: float) -> float:
    """None, which has no length, is 0."""
    return min(max(value or 0.0, low), high)


def _from_zero(value: float, zero: float, unit: float) -> tuple[float, float]:
    """Start and width in per cent of a bar that grows from `zero`."""
    return (zero + unit * value, -unit * value) if value < 0 else (zero, unit * value)


def text_at(x: str, y: float, text: str, css: str, dx: int = 0) -> str:
    """`text` cleaned and escaped at a place in per cent and px."""
    return f'<text class="{css}" x="{x}" y="{y}" dx="{dx}">{escape(clean(text))}</text>'


def group_of(title: str, body: str, run: int | None = None) -> str:
    """`body` with a tip; `run`: the place on the page of the run that it is of."""
    of = "" if run is None else f' data-run="{run:d}"'
    return f"<g{of}><title>{escape(clean(title))}</title>{body}</g>"


def svg(height: float, body: str, label: str) -> Markup:
    """A chart as wide as there is room; `label` says in words what it shows."""
    head = f'<svg class="chart" role="img" aria-label="{escape(clean(label))}" width="100%" height="{height}">'
    return Markup(f"{head}{body}</svg>")
