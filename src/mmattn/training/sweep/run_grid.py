"""Trains the points of a grid that are not done yet, here or through Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmattn.config.compose import Composer
from mmattn.errors import UsageError
from mmattn.progress import log
from mmattn.text import counted
from mmattn.training.directory.frozen import read_config
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.sweep.engine import carry_out, opened
from mmattn.training.sweep.grid import GridPoints
from mmattn.training.sweep.points import SEARCH_FILE, Point, keep_points
from mmattn.training.sweep.work import make_run


def run_grid(folder: Path, points: Sequence[Point], composer: Composer, evaluate: str | None) -> str:
    """Train the points; returns the folder. Raises as multirun.sweep."""
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
        carry_out(folder, GridPoints(points), composer, evaluate)
    return str(folder)


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
