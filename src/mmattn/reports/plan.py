"""The file that `mmattn compare plan=` takes: a grid of runs, each with its own directory."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.config import conf_dir, group_choices, read_choice
from mmattn.data.manifest.rows import SPLITS
from mmattn.errors import UsageError
from mmattn.reports.collect.runs import CONFIG_FILE, read_yaml
from mmattn.training.run.directory import FINISHED_FILE
from mmattn.weighting.clip_scores import scores_file

PLAN_FILE = "plan.json"  # in a run directory: what the plan asked for
KEYS = ("out", "split", "grid", "overrides")
MOST = 10_000  # runs of a grid


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    run: Path
    overrides: tuple[str, ...]
    split: str

    @property
    def evaluation(self) -> Path:
        return self.run / f"evaluation-{self.split}.json"

    def check_ours(self) -> None:
        """Raises UsageError where the folder holds a run that this plan does not describe."""
        if not (self.run / CONFIG_FILE).is_file():
            return
        try:
            same = json.loads((self.run / PLAN_FILE).read_text(encoding="utf-8")) == list(self.overrides)
        except (OSError, ValueError):
            same = False
        if not same:
            raise UsageError(
                f"{self.run}: a run of other settings than the plan's; delete it, or change the plan's out"
            )

    @property
    def trained(self) -> bool:
        return (self.run / FINISHED_FILE).is_file()

    @property
    def done(self) -> bool:
        return self.evaluation.is_file() and scores_file(self.run, self.split).is_file()


def read_plan(path: Path) -> tuple[Path, list[Cell]]:
    """The folder of the runs, and the runs. `path`: a file, or the name of one of conf/compare. Raises UsageError."""
    plan = read_yaml(_found(path))
    if unknown := sorted(set(map(str, plan)) - set(KEYS)):
        raise UsageError(f"{path}: {unknown[0]} is no key of a plan; expected {', '.join(KEYS)}")
    grid, split, out = plan.get("grid"), plan.get("split", "test"), plan.get("out")
    if (
        not isinstance(grid, dict)
        or not grid
        or not all(isinstance(values, list) and values for values in grid.values())
    ):
        raise UsageError(f"{path}: grid: expected keys with lists of values, such as fusion: [late, cross]")
    if split not in SPLITS or not isinstance(out, str):
        raise UsageError(f"{path}: expected out: a folder, and split: one of {', '.join(SPLITS)}")
    common = plan.get("overrides") or []
    if not isinstance(common, list) or not all(isinstance(one, str) for one in common):
        raise UsageError(f"{path}: overrides: expected a list of key=value")
    if (count := _size(grid)) > MOST:
        raise UsageError(f"{path}: {count} runs; a grid has {MOST} at most")
    cells = []
    for values in itertools.product(*grid.values()):
        own = tuple(f"{key}={'null' if value is None else value}" for key, value in zip(grid, values, strict=True))
        name = "-".join(re.sub(r"[^\w.+]+", "_", f"{key.rpartition('.')[2]}_{value}" if _is_bare(value) else str(value))
                        for key, value in zip(grid, values, strict=True))  # fmt: skip
        run = Path(out) / name
        cells.append(Cell(run, (*_once(common, own), f"run={run}"), split))
    if len({cell.run for cell in cells}) < len(cells):
        raise UsageError(f"{path}: grid: two combinations have the same name; list every value once")
    return Path(out), cells


def _once(common: Sequence[str], own: Sequence[str]) -> list[str]:
    """A cell's overrides. A fusion that takes no attention is there once, beside the others' dense ones."""
    given = [*common, *own]
    fusion = next((one.partition("=")[2] for one in reversed(given) if one.startswith("fusion=")), None)
    if fusion in group_choices("fusion") and "attention" not in read_choice("fusion", fusion):
        return [one for one in given if one != "attention=dense"]
    return given


def _found(path: Path) -> Path:
    packaged = conf_dir() / "compare"
    for candidate in (path, packaged / path.name, packaged / f"{path.name}.yaml"):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(file.stem for file in packaged.glob("*.yaml")))
    raise UsageError(f"plan={path}: no such file; name one, or one of {known}")


def _size(grid: dict[str, list[Any]]) -> int:
    count = 1
    for values in grid.values():
        count *= len(values)
    return count


def _is_bare(value: Any) -> bool:
    """A number says nothing without its key, and so does nothing itself."""
    return value is None or isinstance(value, (int, float))
