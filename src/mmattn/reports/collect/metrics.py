"""What a run logged while it trained: metrics.jsonl, read line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmattn.reports.collect.records import Curves, number

METRICS_FILE = "metrics.jsonl"


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """Each logged record in order; none without the file. A line that a crash cut off is skipped."""
    try:
        lines = (run / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def read_curves(run: Path) -> Curves:
    """Every metric over epochs, without the many numbers of attention."""
    curves: dict[str, dict[float, float]] = {}
    for record in read_metrics(run):
        epoch = number(record.get("epoch"))
        if epoch is None:
            continue
        for name, value in record.items():
            finite = number(value)
            if "/" in name and "attention" not in name and finite is not None:
                curves.setdefault(name, {})[epoch + 1] = finite  # a resumed epoch replaces its unfinished first attempt
    return {name: tuple(sorted(points.items())) for name, points in curves.items()}


def training_seconds(run: Path) -> float | None:
    """Wall time of training and validation, summed over resumed parts; None where nothing was logged.

    A part that was interrupted counts up to its last record.
    """
    times = [time for record in read_metrics(run) if (time := number(record.get("time"))) is not None]
    if not times:
        return None
    ends = [time for time, following in pairwise(times) if following < time]  # a resumed part starts at 0
    return sum(ends) + times[-1]
