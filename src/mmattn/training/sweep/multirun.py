"""`mmattn train -m`: a grid of runs, or a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.config.compose import Composer, Config
from mmattn.data.manifest.rows import SPLITS
from mmattn.errors import UsageError
from mmattn.files import fresh_folder
from mmattn.progress import log
from mmattn.text import counted
from mmattn.training.directory.frozen import read_config
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.sweep import grid
from mmattn.training.sweep.engine import carry_out, opened
from mmattn.training.sweep.overrides import is_named, with_grid
from mmattn.training.sweep.points import SEARCH_FILE, Point, keep_points
from mmattn.training.sweep.work import make_run


def sweep(overrides: Sequence[str], name: str = "train") -> str:
    """Train the runs of a grid, or of a search with search=, that are not done yet; returns what to print.

    With dry_run=true nothing is trained. Raises UsageError, MmattnError when any run fails, Stopped on a signal.
    """
    overrides, composer = with_grid(overrides), Composer(name)
    chosen = [text for text in overrides if text.startswith(("sweep.", "dry_run=", "budget="))]
    settings = composer.compose([text for text in overrides if text.startswith("search=")] + chosen, whole=False)
    evaluate = settings["sweep"]["evaluate"]
    if evaluate not in (None, *SPLITS):
        raise UsageError(f"sweep.evaluate={evaluate}: expected {', '.join(SPLITS)}")
    if settings.get("search"):
        if settings["budget"]:
            raise UsageError("budget= solves the widths of a grid's rows; a search has none: leave one of them out")
        from mmattn.training.sweep.search import search

        return search(overrides, evaluate, settings["dry_run"], composer)
    folder, points = grid.plan(overrides)
    grid.check_points(points, composer)
    points = _with_budget(points, composer, settings)
    if settings["dry_run"]:
        from mmattn.training.sweep.forecast import forecast

        return f"{forecast(points, composer, evaluate)}\n{folder}"
    if not is_named(overrides) and (own := fresh_folder(folder)) != folder:
        folder = own  # another sweep started in the same second
        points = _with_budget(grid.plan([*overrides, f"sweep={own.name}"])[1], composer, settings)
    with opened(folder):
        if (folder / SEARCH_FILE).is_file():
            raise UsageError(f"{folder}: holds a search; choose another sweep=NAME")
        keep_points(folder, points)
        done = sum(point.is_done(evaluate) for point in points)
        log(f"{folder}: {counted(len(points), 'run')}, {done} of them done")
    if not launcher_of(composer.compose(points[0].overrides)).here:
        if _submit(folder, points, composer) or not evaluate:
            return str(folder)
        points = [point for point in points if point.finished]
    with opened(folder):
        carry_out(folder, grid.GridPoints(points), composer, evaluate)
    return str(folder)


def _with_budget(points: list[Point], composer: Composer, settings: Config) -> list[Point]:
    if settings["budget"] is None:
        return points
    from mmattn.training.sweep.budget import with_budget

    return with_budget(points, composer, settings["budget"], settings["sweep"]["evaluate"])


def _submit(folder: Path, points: Sequence[Point], composer: Composer) -> bool:
    """Create missing run directories, and submit all unfinished runs; returns whether there were any."""
    todo = [point for point in points if not point.finished]
    if not todo:
        return False
    with opened(folder):
        for point in todo:
            make_run(point, composer.compose(point.overrides))
    frozen = [read_config(point.run) for point in todo]
    launcher_of(frozen[0]).start_all([point.run for point in todo], frozen)
    return True
