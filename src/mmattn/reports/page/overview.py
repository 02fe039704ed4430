"""The head of the page: the main table, the heat map and the Pareto plots, prepared for the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmattn.reports import text
from mmattn.reports.collect.groups import Group, mean_of
from mmattn.reports.collect.runs import Number
from mmattn.reports.page.charts import scatter as plots
from mmattn.reports.page.rows import Row
from mmattn.reports.statistics.comparison import Comparison, Estimate
from mmattn.text import clock

NAMES = {"accuracy": "accuracy", "cider_d": "CIDEr-D", "attention": "attention on audio over its prior, log-ratio"}
COSTS = (("flops", 1e6, "MFLOP"), ("latency_ms", 1.0, "CPU ms"), ("peak_bytes", 1e6, "peak MB"),
         ("gpu_ms", 1.0, "GPU ms"), ("gpu_peak_bytes", 1e6, "GPU peak MB"),
         ("parameters", 1e6, "M parameters"))  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """`sort`: the number to sort by; None: by the text."""

    text: Any
    sort: Number = None
    css: str = "n"


def metric_name(metric: str) -> str:
    kind, _, family = metric.partition("/")
    return NAMES.get(kind, metric.replace("_", " ")) + (f", {family}" if family else "")


def table(groups: Sequence[Group], rows: Sequence[Row], singles: Sequence[Row], comparison: Comparison) -> dict:
    """Columns (title, tip, is a number) and rows with their cells and, where there are several, their seeds."""
    columns = _columns(groups, rows, comparison)
    known = [e for e in comparison.estimates if e]
    low, high = min((e.low for e in known), default=0.0), max((e.high for e in known), default=1.0)
    scale = (low, high)
    made = []
    for place, (group, row, estimate) in enumerate(zip(groups, rows, comparison.estimates, strict=True)):
        cells = [column.cell(row, estimate, scale) for column in columns]
        own = [single for single in singles if single["group"] == group.name]
        seeds = [[column.seed(single) for column in columns] for single in own] if len(own) > 1 else []
        kinds = {"fusion": group.fusion, "attention": group.attention or ""}
        made.append({"place": place, "name": group.name, "cells": cells, "seeds": seeds, **kinds})
    return {"columns": [(c.title, c.tip, c.numeric) for c in columns], "rows": made, "chips": _chips(groups)}


@dataclass(frozen=True)
class _Column:
    title: str
    tip: str
    cell: Callable[[Row, Estimate | None, tuple[float, float]], Cell]
    seed: Callable[[Row], Any]
    numeric: bool = True


def _columns(groups: Sequence[Group], rows: Sequence[Row], comparison: Comparison) -> list[_Column]:
    def plain(title: str, tip: str, key: str, show: Callable[[Any], str]) -> _Column:
        return _Column(title, tip, lambda row, *_: Cell(show(row[key]), row[key]), lambda row: show(row.get(key)))

    def word(title: str, key: str) -> _Column:
        return _Column(title, f"by {title}", lambda row, *_: Cell(row[key], css=""), lambda row: "", numeric=False)

    found = [_Column("run", "by name", lambda row, *_: Cell(row["name"]), lambda row: row["name"],
                     numeric=False)]  # fmt: skip
    named = all(row["name"] == f"{row['fusion']} {row['attention']}" for row in rows)  # the name says it
    if not named:
        found += [word(key, key) for key in ("fusion", "attention") if len({row[key] for row in rows}) > 1]
    score = plain("score", metric_name(comparison.metric), "score", text.fixed)
    found.append(score)
    if comparison.resampled:
        found.append(_Column("95 %", "the interval's upper end", _interval_cell, lambda row: ""))
        if comparison.tested:
            found.append(_Column("rank", "rows that share a letter do not differ significantly", _rank_cell,
                                 lambda row: "", numeric=False))  # fmt: skip
        if len(groups) > 1:
            found.append(_Column("Δ", "difference from the baseline", _delta_cell, lambda row: ""))
    if any(len(group.runs) > 1 for group in groups):
        found.append(_Column("seeds", "how many", lambda row, *_: Cell(str(len(row["seeds"])), len(row["seeds"])),
                             lambda row: row["seed"]))  # fmt: skip
    for key, unit, title in COSTS:
        if any(row[key] is not None for row in rows):
            spread = {"latency_ms": "latency", "gpu_ms": "gpu"}.get(key)
            if spread is None:
                found.append(plain(title, title, key, lambda value, unit=unit: _amount(value, unit)))
            else:
                found.append(_Column(title, f"{title}: the median, and quartiles", partial(_time_cell, key, spread),
                                     lambda row, key=key: _amount(row[key], 1.0)))  # fmt: skip
    if any(row["training_s"] for row in rows):
        found.append(plain("training", "wall time", "training_s", lambda v: clock(v) if v else text.NOTHING))
    return found


def _interval_cell(row: Row, estimate: Estimate | None, scale: tuple[float, float]) -> Cell:
    if estimate is None:
        return Cell(text.NOTHING, -1.0)
    return Cell(plots.whisker(estimate, scale[0], scale[1]), estimate.high, "whisker")


def _rank_cell(row: Row, estimate: Estimate | None, scale: tuple[float, float]) -> Cell:
    return Cell(estimate.letters if estimate else None, css="rank")


def _delta_cell(row: Row, estimate: Estimate | None, scale: tuple[float, float]) -> Cell:
    if row["delta"] is None:
        return Cell("baseline" if estimate else None, 0.0 if estimate else None, "n dim")
    low, high = text.signed(row["delta_low"], 3), text.signed(row["delta_high"], 3)
    shown = f"{text.signed(row['delta'], 3)} ({low} to {high})"
    return Cell(shown, row["delta"], "n delta differs" if row["differs_from_baseline"] else "n delta")


def _time_cell(key: str, spread: str, row: Row, estimate: Estimate | None, scale: tuple[float, float]) -> Cell:
    """A time with its quartiles."""
    low, high = row[f"{spread}_low"], row[f"{spread}_high"]
    between = "" if low is None or high is None else f" ({_amount(low, 1.0)} to {_amount(high, 1.0)})"
    return Cell(f"{_amount(row[key], 1.0)}{between}", row[key])


def _amount(value: Number, unit: float) -> str:
    if value is None:
        return text.NOTHING
    amount = value / unit
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def _chips(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Kind and value of what rows can be filtered by: fusion and attention, where there is a choice."""
    found: list[tuple[str, str]] = []
    for kind, values in (("fusion", [g.fusion for g in groups]), ("attention", [g.attention for g in groups])):
        distinct = dict.fromkeys(value for value in values if value)
        found += [(kind, value) for value in distinct if len(distinct) > 1]
    return found


def heat_map(groups: Sequence[Group], rows: Sequence[Row]) -> dict[str, Any] | None:
    """Fusions down, attentions across; None unless both vary."""
    fusions = list(dict.fromkeys(row["fusion"] for row in rows))
    attentions = list(dict.fromkeys(row["attention"] or "none" for row in rows))
    if len(fusions) < 2 or len(attentions) < 2:
        return None
    cells: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        cells.setdefault((row["fusion"], row["attention"] or "none"), []).append(place)
    values = {key: mean_of([rows[place]["score"] for place in places]) for key, places in cells.items()}
    known = [value for value in values.values() if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)

    def cell(fusion: str, attention: str) -> tuple[Number, int, int | None]:
        value = values.get((fusion, attention))
        places = cells.get((fusion, attention), [])
        return value, plots.heat_level(value, low, high), places[0] if len(places) == 1 else None

    shown = [(fusion, [cell(fusion, attention) for attention in attentions]) for fusion in fusions]
    several = any(len(places) > 1 for places in cells.values())
    return {"columns": attentions, "rows": shown, "low": low, "high": high, "several": several}


def pareto(rows: Sequence[Row], metric: str, lengths: Sequence[Row]) -> list[tuple[str, Any]]:
    """Score against each cost that at least two rows have, and cost over the length of the clip."""
    found = []
    for key, unit, title in COSTS:
        points = [
            plots.CostPoint(place, row["name"], row[key] / unit, row["score"])
            for place, row in enumerate(rows)
            if row[key] and row["score"] is not None
        ]
        if len(points) > 1:
            found.append((f"score against {title}", plots.scatter(points, title, metric_name(metric))))
    places = {row["name"]: place for place, row in enumerate(rows)}
    for key, unit, title in (("flops", 1e6, "MFLOP"), ("peak_bytes", 1e6, "peak MB")):
        series = [
            (place, name, [(one["seconds"], one[key] / unit) for one in lengths if one["name"] == name])
            for name, place in places.items()
        ]
        series = [one for one in series if len(one[2]) > 1]
        if series:
            found.append((f"{title} over the clip's length", plots.lines(series, "s", title)))
    return found
