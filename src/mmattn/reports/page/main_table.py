"""The main table of the page: a row for each group with its score, tests and costs, and its seeds below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.records import Number
from mmattn.reports.page.charts.bars import whisker
from mmattn.reports.page.rows import Row
from mmattn.reports.statistics.comparison import Comparison, Estimate
from mmattn.reports.text import NOTHING, fixed, short, signed
from mmattn.text import clock

_NAMES = {"accuracy": "accuracy", "cider_d": "CIDEr-D", "attention": "attention on audio over its prior, log-ratio"}
COSTS = (("flops", 1e6, "MFLOP"), ("latency_ms", 1.0, "CPU ms"), ("peak_bytes", 1e6, "peak MB"),
         ("gpu_ms", 1.0, "GPU ms"), ("gpu_peak_bytes", 1e6, "GPU peak MB"),
         ("parameters", 1e6, "M parameters"))  # fmt: skip
_QUARTILES = {"latency_ms": "latency", "gpu_ms": "gpu"}  # prefixes of their keys


@dataclass(frozen=True)
class Cell:
    """`sort`: the number to sort by; None: by the text."""

    text: Any
    sort: Number = None
    css: str = "n"


@dataclass(frozen=True)
class _Column:
    """`cell`: of a row; `seed`: what a single run below it shows."""

    title: str
    tip: str
    cell: Callable[[Row, Estimate | None], Cell]
    seed: Callable[[Row], Any] = lambda run: ""
    numeric: bool = True


def metric_name(metric: str) -> str:
    """A metric as a heading, such as "mAP, synergy"."""
    kind, _, family = metric.partition("/")
    return _NAMES.get(kind, metric.replace("_", " ")) + (f", {family}" if family else "")


def main_table(groups: Sequence[Group], rows: Sequence[Row], runs: Sequence[Row], comparison: Comparison) -> dict:
    """Columns (title, tip, is a number), rows with their cells and seeds, and the chips to filter by."""
    columns = _columns(groups, rows, comparison)
    shown = []
    for place, (group, row, estimate) in enumerate(zip(groups, rows, comparison.estimates, strict=True)):
        own = [run for run in runs if run["group"] == group.name]
        shown.append({
            "place": place, "name": group.name, "fusion": group.fusion, "attention": group.attention or "",
            "cells": [column.cell(row, estimate) for column in columns],
            "seeds": [[column.seed(run) for column in columns] for run in own] if len(own) > 1 else [],
        })  # fmt: skip
    return {"columns": [(c.title, c.tip, c.numeric) for c in columns], "rows": shown, "chips": _chips(groups)}


def _columns(groups: Sequence[Group], rows: Sequence[Row], comparison: Comparison) -> list[_Column]:
    found = [_Column("run", "by name", lambda row, _: Cell(row["name"]), lambda run: run["name"], numeric=False)]
    if any(row["name"] != f"{row['fusion']} {row['attention']}" for row in rows):  # else the name says it
        varied = [key for key in ("fusion", "attention") if len({row[key] for row in rows}) > 1]
        found += [_Column(key, f"by {key}", partial(_word_cell, key), numeric=False) for key in varied]
    found += [_number("score", metric_name(comparison.metric), "score", fixed), *_tests(groups, comparison)]
    if any(len(group.runs) > 1 for group in groups):
        seeds = _Column("seeds", "how many", lambda row, _: Cell(str(len(row["seeds"])), len(row["seeds"])),
                        lambda run: run["seed"])  # fmt: skip
        found.append(seeds)
    found += [_cost(*cost) for cost in COSTS if any(row[cost[0]] is not None for row in rows)]
    if any(row["training_s"] for row in rows):
        found.append(_number("training", "wall time", "training_s", lambda value: clock(value) if value else NOTHING))
    return found


def _tests(groups: Sequence[Group], comparison: Comparison) -> list[_Column]:
    """Interval, rank and difference, as far as the clips' scores allow them."""
    if not comparison.resampled:
        return []
    known = [estimate for estimate in comparison.estimates if estimate]
    low, high = min((e.low for e in known), default=0.0), max((e.high for e in known), default=1.0)
    found = [_Column("95 %", "the interval's upper end", partial(_interval_cell, low, high))]
    if comparison.tested:
        tip = "rows that share a letter do not differ significantly"
        found.append(_Column("rank", tip, lambda _, one: Cell(one and one.letters, css="rank"), numeric=False))
    if len(groups) > 1:
        found.append(_Column("Δ", "difference from the baseline", _delta_cell))
    return found


def _number(title: str, tip: str, key: str, show: Callable[[Any], str]) -> _Column:
    return _Column(title, tip, lambda row, _: Cell(show(row[key]), row[key]), lambda run: show(run.get(key)))


def _cost(key: str, unit: float, title: str) -> _Column:
    if key not in _QUARTILES:
        return _number(title, title, key, lambda value: _amount(value, unit))
    tip = f"{title}: the median, and quartiles"
    return _Column(title, tip, partial(_time_cell, key), lambda run: _amount(run[key], 1.0))


def _word_cell(key: str, row: Row, estimate: Estimate | None) -> Cell:
    return Cell(row[key], css="")


def _interval_cell(low: float, high: float, row: Row, estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(NOTHING, -1.0)
    return Cell(whisker(estimate, low, high), estimate.high, "whisker")


def _delta_cell(row: Row, estimate: Estimate | None) -> Cell:
    if row["delta"] is None:
        return Cell("baseline" if estimate else None, 0.0 if estimate else None, "n dim")
    text = f"{signed(row['delta'], 3)} ({signed(row['delta_low'], 3)} to {signed(row['delta_high'], 3)})"
    return Cell(text, row["delta"], "n delta differs" if row["differs_from_baseline"] else "n delta")


def _time_cell(key: str, row: Row, estimate: Estimate | None) -> Cell:
    low, high = (row[f"{_QUARTILES[key]}_{end}"] for end in ("low", "high"))
    between = "" if low is None or high is None else f" ({_amount(low, 1.0)} to {_amount(high, 1.0)})"
    return Cell(f"{_amount(row[key], 1.0)}{between}", row[key])


def _amount(value: Number, unit: float) -> str:
    return NOTHING if value is None else short(value / unit)


def _chips(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Kind and value of what rows can be filtered by: fusion and attention, where they vary."""
    found: list[tuple[str, str]] = []
    for kind, values in (("fusion", [g.fusion for g in groups]), ("attention", [g.attention for g in groups])):
        distinct = dict.fromkeys(value for value in values if value)
        found += [(kind, value) for value in distinct if len(distinct) > 1]
    return found
