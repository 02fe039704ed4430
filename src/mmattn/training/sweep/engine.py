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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mmattn.config.compose import Composer, Config
from mmattn.data.manifest.rows import SPLITS
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import fresh_folder, write_atomically
from mmattn.progress import say
from mmattn.text import clock, counted
from mmattn.training.launch.launcher import launcher_of
from mmattn.training.run.alone import alone
from mmattn.training.run.directory import read_config
from mmattn.training.sweep import grid
from mmattn.training.sweep.asked import is_named, with_grid
from mmattn.training.sweep.points import SEARCH_FILE, SWEEP_FILE, Hopeless, Point, keep_points, read_points
from mmattn.training.sweep.work import Work, make_run


class Points(Protocol):
    """`count`: how many there will be. Each is carried out before the next is asked for, and has finished or failed.

    `finished` raises MmattnError for a run that fails after all.
    """

    count: int

    def __iter__(self) -> Iterator[Point]: ...

    def finished(self, point: Point) -> None: ...

    def failed(self, point: Point) -> None: ...


def sweep(overrides: Sequence[str], name: str = "train") -> str:
    """Carry out what is not done of a grid, or with search= of a search; returns what to print.

    With dry_run=true it only tells. Raises UsageError for what no run can be, MmattnError when any fails, Stopped on a
    signal.
    """
    overrides, composer = with_grid(overrides), Composer(name)
    settings = [text for text in overrides if text.startswith(("sweep.", "dry_run=", "budget="))]
    asked = composer.compose([text for text in overrides if text.startswith("search=")] + settings, whole=False)
    evaluate = asked["sweep"]["evaluate"]
    if evaluate not in (None, *SPLITS):
        raise UsageError(f"sweep.evaluate={evaluate}: expected {', '.join(SPLITS)}")
    if asked.get("search"):
        if asked["budget"]:
            raise UsageError("budget= solves the widths of a grid's rows; a search has none: leave one of them out")
        from mmattn.training.sweep.optuna import search

        return search(overrides, evaluate, asked["dry_run"], composer)
    folder, points = grid.plan(overrides)
    grid.check_points(points, composer)
    points = _held(points, composer, asked)
    if asked["dry_run"]:
        from mmattn.training.sweep.forecast import forecast

        return f"{forecast(points, composer, evaluate)}\n{folder}"
    if not is_named(overrides) and (own := fresh_folder(folder)) != folder:
        folder = own  # another began in the same second
        points = _held(grid.plan([*overrides, f"sweep={own.name}"])[1], composer, asked)
    with opened(folder):
        if (folder / SEARCH_FILE).is_file():
            raise UsageError(f"{folder}: holds a search; choose another sweep=NAME")
        keep_points(folder, points)
        done = sum(point.is_done(evaluate) for point in points)
        say(f"{folder}: {counted(len(points), 'run')}, {done} of them done")
    if not launcher_of(composer.compose(points[0].overrides)).here:
        if _submit(folder, points, composer) or not evaluate:
            return str(folder)
        points = [point for point in points if point.finished]
    with opened(folder):
        carry_out(folder, grid.GridPoints(points), composer, evaluate)
    return str(folder)


def _held(points: list[Point], composer: Composer, asked: Config) -> list[Point]:
    if asked["budget"] is None:
        return points
    from mmattn.training.sweep.budget import with_budget

    return with_budget(points, composer, asked["budget"], asked["sweep"]["evaluate"])


def opened(folder: Path) -> Any:
    """The sweep's folder, for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    return alone(folder)


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
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _keep_outcome(point: Point, wrong: str | None) -> None:
    if wrong is None:
        with suppress(FileNotFoundError):
            point.failure.unlink()
        return
    print(f"{point.run}: failed, and is left out: {wrong}", file=sys.stderr)
    point.failure.parent.mkdir(exist_ok=True)
    write_atomically(point.failure, json.dumps({"reason": wrong, "at": time.time()}).encode())


def _submit(folder: Path, points: Sequence[Point], composer: Composer) -> bool:
    """Make the runs that are not there yet, then all that are not finished as one array; False where none is left."""
    todo = [point for point in points if not point.finished]
    if not todo:
        return False
    with opened(folder):
        for point in todo:
            make_run(point, composer.compose(point.overrides))
    frozen = [read_config(point.run) for point in todo]
    launcher_of(frozen[0]).start_all([point.run for point in todo], frozen)
    return True


def known_points(folder: Path) -> list[Point]:
    """Of a folder that a sweep left. Raises UsageError where it is none."""
    found = read_points(folder)
    if not found:
        raise UsageError(f"{folder}: holds no sweep (no {SWEEP_FILE}); name the folder that mmattn train -m printed")
    return [Point(folder / name, (), tuple(overrides)) for name, overrides in found.items()]
