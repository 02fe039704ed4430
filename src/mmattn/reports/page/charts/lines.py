"""One line a run over a quantity: losses over epochs, scores over noise, precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mmattn.reports.collect.records import Number
from mmattn.reports.page.charts import svg

Series = tuple[int, str, Sequence[tuple[float, float]]]  # the run's place on the page, its name, its points
_DOTTED = 12  # points of a line that are marked each


def lines(
    series: Sequence[Series],
    across: str,
    up: str,
    bounds: tuple[float, float] | None = None,
    chance: Number = None,
) -> Markup:
    """`across`, `up`: names of the axes. `bounds` of the vertical axis; None: those of the points, with some room."""
    points = [point for _, _, line in series for point in line]
    if not points:
        return Markup("")
    marks = sorted({x for x, _ in points})
    left, right = (marks[0], marks[-1]) if len(marks) > 1 else (marks[0] - 1, marks[0] + 1)
    bottom, top = bounds or svg.padded([y for _, y in points])
    x_of, y_of = svg.Scale(left, right, 0.0, 100.0), svg.Scale(bottom, top, 100.0, 0.0)
    inner = ""
    if chance is not None:
        inner += f'<line class="chance" x1="0" x2="100" y1="{y_of(chance):.2f}" y2="{y_of(chance):.2f}"/>'
    for run, name, line in sorted(series, key=lambda one: -one[0]):  # the first runs on top
        places = [f"{x_of(x):.2f},{y_of(y):.2f}" for x, y in line]
        shape = f'<polyline points="{" ".join(places)}"/>' if len(places) > 1 else ""
        if len(places) <= _DOTTED:  # a dot is a line of no length with round ends
            shape += f'<path class="dots" d="{" ".join(f"M{place}h0" for place in places)}"/>'
        inner += svg.titled(name, f'<g class="line {svg.run_class(run)}">{shape}</g>', run=run) if places else ""
    width, height = svg.RIGHT - svg.LEFT, svg.BOTTOM - svg.TOP
    plot = f'<svg x="{svg.LEFT}%" y="{svg.TOP:g}" width="{width}%" height="{height:g}" class="plot" '
    plot += f'viewBox="0 0 100 100" preserveAspectRatio="none">{inner}</svg>'
    down, along = svg.Scale(bottom, top, svg.BOTTOM, svg.TOP), svg.Scale(left, right, svg.LEFT, svg.RIGHT)
    rows = [(down(value), f"{value:g}") for value in svg.ticks(bottom, top)]
    shown = marks if len(marks) <= 8 else svg.ticks(left, right)
    columns = [(along(value), f"{value:g}") for value in shown]
    return svg.svg(svg.HEIGHT, svg.frame(up, rows, across, columns) + plot, f"{up} over {across}")
