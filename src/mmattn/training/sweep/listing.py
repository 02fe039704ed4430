"""`mmattn sweep ls DIR`: the state of each run of a sweep, and the best finished run."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.config.compose import Config
from mmattn.errors import MmattnError, UsageError
from mmattn.metrics.directions import LOWER
from mmattn.process.lease import Lease
from mmattn.training.directory.exclusive import LEASE
from mmattn.training.directory.names import EVALUATION_FILE
from mmattn.training.launch.submit import in_queue
from mmattn.training.sweep.points import SEARCH_FILE, Point, known_points

STATES = ("done", "running", "queued", "stopped", "failed", "open")


def listed(config: Config) -> str:
    """A line for each run, the best first, then by state; and a line of counts. Raises UsageError."""
    if config["folder"] is None:
        raise UsageError("name the folder of a sweep: mmattn sweep ls runs/sweeps/NAME")
    folder = Path(str(config["folder"]))
    points = known_points(folder)
    metric, direction = _by(config, folder)
    queue = _queue([point.run for point in points if not point.finished])
    rows = []
    for point in points:
        state, reason = _state(point, queue)
        rows.append((state, _value(point, metric) if state == "done" else None, point.run.name, reason))
    if rows and not any(row[1] is not None for row in rows) and any(row[0] == "done" for row in rows):
        raise UsageError(f"metric={metric}: no finished run has it; {_known(points)}")
    sign = -1 if direction == "maximize" else 1
    rows.sort(key=lambda row: (STATES.index(row[0]), math.inf if row[1] is None else sign * row[1]))
    lines = [f"{'state':7}  {metric:>10}  run"]
    for state, value, name, reason in rows:
        score = "-" if value is None else f"{value:.4f}"
        lines.append(f"{state:7}  {score:>10}  {name}" + (f": {reason}" if reason else ""))
    count = Counter(row[0] for row in rows)
    lines.append(", ".join(f"{count[state]} {state}" for state in STATES if count[state]) + f" of {len(rows)}")
    if rows[0][1] is not None:
        lines.append(f"best: {folder / rows[0][2]}")
    return "\n".join(lines)


def _by(config: Config, folder: Path) -> tuple[str, str]:
    try:
        search: dict[str, Any] = json.loads((folder / SEARCH_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        search = {}
    searched = search.get("metric", "val/mAP")
    metric, direction = str(config["metric"] or searched), config["direction"]
    if direction == "auto":
        lower = metric.removeprefix("val/").partition("/")[0] in LOWER
        direction = search.get("direction", "maximize") if metric == searched else "minimize" if lower else "maximize"
    if direction not in ("maximize", "minimize"):
        raise UsageError(f"direction={direction}: expected maximize or minimize")
    return metric, direction


def _queue(runs: Sequence[Path]) -> set[Path]:
    """Runs that wait or train in Slurm; empty where Slurm does not answer."""
    try:
        return set(in_queue(runs))
    except MmattnError:
        return set()


def _state(point: Point, queue: set[Path]) -> tuple[str, str]:
    """The state of a run, and why it failed."""
    if point.finished and not point.failure.is_file():
        return "done", ""
    if (point.run / LEASE).is_dir() and Lease(point.run / LEASE).is_held():
        return "running", ""
    if point.run in queue:
        return "queued", ""
    if point.failure.is_file():
        try:
            return "failed", str(json.loads(point.failure.read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return "failed", ""
    return ("stopped" if point.begun else "open"), ""


def _evaluated(point: Point) -> dict[str, float]:
    from mmattn.training.logging.curves import curves  # with torch, which wrong folders need not wait for

    try:
        return curves(json.loads((point.run / EVALUATION_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _value(point: Point, metric: str) -> float | None:
    value = _evaluated(point).get(metric)
    return value if value is not None and math.isfinite(value) else None


def _known(points: Sequence[Point]) -> str:
    names = [name for point in points for name in _evaluated(point) if name.count("/") == 1]
    return f"among others it has {', '.join(dict.fromkeys(names)) or 'none'}"
