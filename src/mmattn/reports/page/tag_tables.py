"""Precision and recall of tags, and confusions in exclusive groups: figures and tables for the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from mmattn.reports.page.charts.lines import Series, lines
from mmattn.reports.page.heat_map import heat_level
from mmattn.reports.page.rows import Row
from mmattn.reports.statistics.tag_results import TagResults

Results = Sequence[TagResults | None]


def precision_recall(names: Sequence[str], results: Results) -> list[tuple[str, Markup]]:
    """A chart for all tags and one for each family: a line a row of the page."""
    found = []
    for family in dict.fromkeys(family for one in results if one for family in one.curves):
        series: list[Series] = [
            (place, name, one.curves.get(family, ()) if one else ())
            for place, (name, one) in enumerate(zip(names, results, strict=True))
        ]
        found.append((f"precision over recall, {family}", lines(series, "recall", "precision", (0.0, 1.0))))
    return found


def confusions(results: Results, most: int) -> list[tuple[int, str, tuple[str, ...], list[tuple[str, list[Any]]]]]:
    """Place of the row, group, its tags, and for each true tag the cells (count, depth of colour) of the first rows."""
    found = []
    for place, one in enumerate(results[:most]):
        for group, (tags, matrix) in one.confusions.items() if one else ():
            rows = [(tag, [(count, _share_level(count, sum(counts))) for count in counts])
                    for tag, counts in zip(tags, matrix, strict=True)]  # fmt: skip
            found.append((place, group, tags, rows))
    return found


def _share_level(count: int, total: int) -> int:
    return heat_level(count, 0, total) if count else 0


def export(names: Sequence[str], results: Results) -> dict[str, list[Row]]:
    """The same as rows of plain values."""
    known = [(name, one) for name, one in zip(names, results, strict=True) if one is not None]
    return {
        "decisions": [{"name": name, **vars(tag)} for name, one in known for tag in one.tags],
        "precision_recall": [
            {"name": name, "family": family, "recall": recall, "precision": precision}
            for name, one in known for family, points in one.curves.items() for recall, precision in points
        ],
        "confusions": [
            {"name": name, "group": group, "truth": truth, "listed": listed, "clips": count}
            for name, one in known for group, (tags, matrix) in one.confusions.items()
            for truth, counts in zip(tags, matrix, strict=True) for listed, count in zip(tags, counts, strict=True)
        ],
    }  # fmt: skip
