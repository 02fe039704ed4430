"""The run directories to compare: named, matched by a pattern, or all below a folder."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.files import matching
from mmattn.reports.collect.runs import CONFIG_FILE, EVALUATION_FILE

_DEPTH = 4  # levels of folders below sweep= that are searched


def select_runs(runs: Any, sweep: Any) -> list[Path]:
    """The directories of `runs` (a list, or a pattern such as runs/*) or below `sweep` (a folder), in order of name.

    A list is used as given; patterns and sweeps skip what is not a run. Raises UsageError when nothing is left.
    """
    if (runs is None) == (sweep is None):
        raise UsageError("set either runs= or sweep=, as in runs=[runs/a,runs/b], runs='runs/*' or sweep=DIR")
    if sweep is not None:
        return _below(Path(str(sweep)))
    if isinstance(runs, str):
        return _matching(runs)
    if not isinstance(runs, Sequence):
        raise UsageError(f"runs={runs}: expected a list or a pattern, as in runs=[runs/a,runs/b] or runs='runs/*'")
    if not runs:
        raise UsageError("runs=[]: nothing to compare; name at least one run directory, as in runs=[runs/a,runs/b]")
    found = []
    for run in map(str, runs):
        found += _matching(run)
    return found


def check_exist(runs: Sequence[Path]) -> None:
    """Raises UsageError for the first of `runs` that is not a directory."""
    for run in runs:
        if not run.is_dir():
            raise UsageError(f"{run}: no such run directory; give runs= the directory that mmattn train printed")


def unfinished(paths: Sequence[Path]) -> list[Path]:
    """The runs in which no validation has finished yet."""
    return [path for path in paths if not (path / EVALUATION_FILE).is_file()]


def _matching(pattern: str) -> list[Path]:
    if not glob.has_magic(pattern) or Path(pattern).is_dir():
        return [Path(pattern)]
    found = matching(pattern)
    runs = [path for path in found if (path / CONFIG_FILE).is_file()]
    if not runs:
        what = f"none of the {len(found)} it matches is a run directory" if found else "it matches nothing"
        raise UsageError(f"runs={pattern}: {what}; give runs= the directories that mmattn train printed")
    return runs


def _below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"sweep={folder}: no such folder; name the folder that holds the runs")
    found: list[Path] = []
    for name, folders, files in os.walk(folder):
        here = Path(name)
        if CONFIG_FILE in files and here != folder:
            found.append(here)
            folders.clear()  # a run's own folders
        elif len(here.relative_to(folder).parts) >= _DEPTH:
            folders.clear()
        folders.sort()
    if not found:
        raise UsageError(f"sweep={folder}: no run directory below it; name the folder that holds the runs")
    return sorted(found)
