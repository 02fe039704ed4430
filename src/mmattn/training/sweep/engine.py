"""Trains the runs of a grid or search one after the other.

Each run is named by the values that differ, resumed where it stopped, and evaluated if sweep.evaluate is set. A failed
run is reported and recorded, and the same command tries it again. One process works in a folder at a time. Exit codes:
0 all done, 1 any failed, 130 interrupted (143 by SIGTERM), 2 usage error.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mmattn.config.compose import Composer
from mmattn.errors import MmattnError, Stopped, UsageError, first_line
from mmattn.files import write_atomically
from mmattn.progress import log
from mmattn.text import clock, counted
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.sweep.points import Hopeless, Point
from mmattn.training.sweep.work import Work


class Points(Protocol):
    """The points of a sweep. `count`: how many there will be. Each is finished or failed before the next is requested.

    `finished` may raise MmattnError, which makes the run a failed one.
    """

    count: int

    def __iter__(self) -> Iterator[Point]: ...

    def finished(self, point: Point) -> None:
        """Called when the run of a point has finished."""

    def failed(self, point: Point) -> None:
        """Called when the run of a point has failed."""


def opened(folder: Path) -> Any:
    """Create the folder of a sweep and hold its lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    return exclusive(folder)


def carry_out(folder: Path, points: Points, composer: Composer, evaluate: str | None) -> None:
    """Train and evaluate all points that are not done. Raises MmattnError at the end when any failed."""
    failed, begun, started = 0, 0, time.monotonic()
    with Work(evaluate) as work:
        for number, point in enumerate(points, start=1):
            if not point.is_done(evaluate):
                took = time.monotonic() - started
                left = f", about {clock(took / begun * (points.count - number + 1))} left" if begun else ""
                log(f"[{number}/{points.count}] {point.run}{left}")
                begun += 1
            failure = _try(point, points, work, composer)
            _record_outcome(point, failure)
            failed += failure is not None
    if failed:
        many = f"{failed} of {counted(points.count, 'run')} failed"
        raise MmattnError(f"{folder}: {many}; the same command tries again (mmattn sweep ls {folder} lists them)")
    log(f"{folder}: {counted(points.count, 'run')} done; next: mmattn compare sweep={shlex.quote(str(folder))}")


def _try(point: Point, points: Points, work: Work, composer: Composer) -> str | None:
    """Carry out a point; returns why it failed, or None. A signal, or a Hopeless error, ends the sweep."""
    try:
        if not point.is_done(work.evaluate):
            work.carry_out(point, composer.compose(point.overrides))
        points.finished(point)
    except (Stopped, Hopeless):
        raise
    except (MmattnError, RuntimeError, OSError) as error:
        points.failed(point)
        return first_line(error)
    return None


def _record_outcome(point: Point, failure: str | None) -> None:
    if failure is None:
        with suppress(FileNotFoundError):
            point.failure.unlink()
        return
    print(f"{point.run}: failed, continuing without it: {failure}", file=sys.stderr)
    point.failure.parent.mkdir(exist_ok=True)
    write_atomically(point.failure, json.dumps({"reason": failure, "at": time.time()}).encode())
