"""Many runs, whichever way they are chosen: a grid's points, or what a search asks for next.

Runs are trained one after the other, or handed to a launcher that trains them elsewhere. Each is named by what differs,
goes on where it stopped, and is evaluated when sweep.evaluate says so; what failed is kept, said and tried again by the
same command. One process works in a folder at a time. Exit code: 0 all done, 1 any failed, 130 interrupted (143 by
SIGTERM), 2 asked wrongly.
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
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import write_atomically
from mmattn.progress import say
from mmattn.text import clock, counted, first_line
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.sweep.points import Hopeless, Point
from mmattn.training.sweep.work import Work


class Points(Protocol):
    """`count`: how many there will be. Each is carried out before the next is asked for, and has finished or failed.

    `finished` raises MmattnError for a run that fails after all.
    """

    count: int

    def __iter__(self) -> Iterator[Point]: ...

    def finished(self, point: Point) -> None: ...

    def failed(self, point: Point) -> None: ...


def opened(folder: Path) -> Any:
    """The sweep's folder, for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    return exclusive(folder)


def carry_out(folder: Path, points: Points, composer: Composer, evaluate: str | None) -> None:
    """All that are not done, one after the other. Raises MmattnError when any failed, at the end."""
    failed, begun, started = 0, 0, time.monotonic()
    with Work(evaluate) as work:
        for number, point in enumerate(points, start=1):
            if not point.is_done(evaluate):
                took = time.monotonic() - started
                left = f", about {clock(took / begun * (points.count - number + 1))} left" if begun else ""
                say(f"[{number}/{points.count}] {point.run}{left}")
                begun += 1
            wrong = _tried(point, points, work, composer)
            _keep_outcome(point, wrong)
            failed += wrong is not None
    if failed:
        many = f"{failed} of {counted(points.count, 'run')} failed"
        raise MmattnError(f"{folder}: {many}; the same command tries again (mmattn sweep ls {folder} lists them)")
    say(f"{folder}: {counted(points.count, 'run')} done; next: mmattn compare sweep={shlex.quote(str(folder))}")


def _tried(point: Point, points: Points, work: Work, composer: Composer) -> str | None:
    """What was wrong, in a line; None where it went well. A signal, and what no run can do, end the sweep."""
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


def _keep_outcome(point: Point, wrong: str | None) -> None:
    if wrong is None:
        with suppress(FileNotFoundError):
            point.failure.unlink()
        return
    print(f"{point.run}: failed, and is left out: {wrong}", file=sys.stderr)
    point.failure.parent.mkdir(exist_ok=True)
    write_atomically(point.failure, json.dumps({"reason": wrong, "at": time.time()}).encode())
