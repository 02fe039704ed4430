"""`mmattn train -m`: a grid of runs, or a search."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.config.compose import Composer, Config
from mmattn.errors import UsageError
from mmattn.files import fresh_folder
from mmattn.training.sweep import grid
from mmattn.training.sweep.overrides import is_named, with_grid
from mmattn.training.sweep.points import Point


def sweep(overrides: Sequence[str], name: str = "train") -> str:
    """Train the runs of a grid, or of a search with search=, that are not done yet; returns what to print.

    With dry_run=true nothing is trained. Raises UsageError, MmattnError when any run fails, Stopped on a signal.
    """
    overrides, composer = with_grid(overrides), Composer(name)
    chosen = [text for text in overrides if text.startswith(("sweep.", "dry_run=", "budget="))]
    settings = composer.compose([text for text in overrides if text.startswith("search=")] + chosen, whole=False)
    evaluate = settings["sweep"]["evaluate"]
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
    from mmattn.training.sweep.run_grid import run_grid  # with torch

    return run_grid(folder, points, composer, evaluate)


def _with_budget(points: list[Point], composer: Composer, settings: Config) -> list[Point]:
    if settings["budget"] is None:
        return points
    from mmattn.training.sweep.budget import with_budget

    return with_budget(points, composer, settings["budget"], settings["sweep"]["evaluate"])
