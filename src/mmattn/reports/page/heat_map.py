"""Scores of fusion x attention, coloured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmattn.reports.collect.groups import mean_of
from mmattn.reports.collect.records import Number
from mmattn.reports.page.rows import Row


def heat_map(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Fusions down, attentions across; None unless both vary."""
    fusions = list(dict.fromkeys(row["fusion"] for row in rows))
    attentions = list(dict.fromkeys(row["attention"] or "none" for row in rows))
    if len(fusions) < 2 or len(attentions) < 2:
        return None
    places: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row["fusion"], row["attention"] or "none"), []).append(place)
    values = {key: mean_of([rows[place]["score"] for place in own]) for key, own in places.items()}
    known = [value for value in values.values() if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)

    def cell(fusion: str, attention: str) -> tuple[Number, int, int | None]:
        value, own = values.get((fusion, attention)), places.get((fusion, attention), [])
        return value, heat_level(value, low, high), own[0] if len(own) == 1 else None

    shown = [(fusion, [cell(fusion, attention) for attention in attentions]) for fusion in fusions]
    several = any(len(own) > 1 for own in places.values())
    return {"columns": attentions, "rows": shown, "low": low, "high": high, "several": several}


def heat_level(value: Number, low: float, high: float) -> int:
    """The depth of a cell's colour, from 1 to 9; 0 for none."""
    if value is None:
        return 0
    return 1 + round(8 * (value - low) / ((high - low) or 1.0))
