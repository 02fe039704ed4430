"""`mmattn compare plan=...`: train and evaluate every run of a grid that is not there yet, with an estimate before.

A run is done when its evaluation lies beside it, so the same command goes on wherever it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmattn.config import Config, compose
from mmattn.data.manifest.splits import SplitData
from mmattn.errors import MmattnError, Stopped
from mmattn.files import write_atomically
from mmattn.progress import say
from mmattn.reports.collect.runs import CONFIG_FILE
from mmattn.reports.forecast import that_fit
from mmattn.reports.plan import PLAN_FILE, Cell, read_plan
from mmattn.text import clock, counted


def carry_out(path: Path, dry_run: bool = False) -> Path:
    """Train and evaluate what is missing; returns the folder of the runs. `dry`: only say what that would take.

    A run that fails is reported and left out. Raises MmattnError when all do, Stopped on a signal.
    """
    out, cells = read_plan(path)
    for cell in cells:
        cell.check_ours()
    todo = [cell for cell in cells if not cell.done]
    say(f"{path}: {counted(len(cells), 'run')}, {len(cells) - len(todo)} of them done")
    if not todo:
        return out
    work = _Work()
    fit = that_fit(todo, work.data, say)
    if dry_run:
        work.close()
        return out
    if _submitted(fit):
        fit = [cell for cell in fit if cell.trained]
    started, failed = time.monotonic(), 0
    try:
        for number, cell in enumerate(fit, start=1):
            took = time.monotonic() - started
            left = f", about {clock(took / (number - 1) * (len(fit) - number + 1))} left" if number > 1 else ""
            say(f"[{number}/{len(fit)}] {cell.run}{left}")
            try:
                work.carry_out(cell)
            except Stopped:
                raise
            except MmattnError as error:
                failed += 1
                say(f"{cell.run}: failed, and is left out: {error}")
    finally:
        work.close()
    if failed and failed == len(fit) == len(cells):
        raise MmattnError(f"{path}: all {counted(failed, 'run')} failed; the first message is above")
    return out


class _Work:
    """Trains and evaluates; runs on the same data share the clips that were read."""

    def __init__(self) -> None:
        self._data: SplitData | None = None
        self._data_config: Any = None

    def data(self, config: Config) -> SplitData:
        from mmattn.data.load.module import build_data

        if self._data is None or config["data"] != self._data_config:
            self.close()
            self._data, self._data_config = build_data(config["data"]), config["data"]
        return self._data

    def close(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None

    def carry_out(self, cell: Cell) -> None:
        """Train, or go on training, on the config's launcher; then evaluate here."""
        from mmattn.training.launch.launcher import launcher_of
        from mmattn.training.run.directory import read_config
        from mmattn.training.run.evaluate import evaluate_run

        make_run(cell)
        config = read_config(cell.run)
        if not cell.trained:
            alone = config["trainer"]["devices"] == 1
            launcher_of(config).start(cell.run, config, self.data(config) if alone else None)
        by_clip = cell.evaluation.with_name(f"{cell.evaluation.stem}-clips.jsonl")
        record = evaluate_run(cell.run, cell.split, self.data(config), by_clip=by_clip)
        write_atomically(cell.evaluation, json.dumps(record, indent=1).encode())


def make_run(cell: Cell) -> None:
    """The cell's run directory, if it is not there yet."""
    from mmattn.training.launch.local import prepare

    if (cell.run / CONFIG_FILE).is_file():
        return
    config = compose("train", cell.overrides)
    _mark(cell)
    _, data = prepare(config)
    data.close()


def _submitted(cells: Sequence[Cell]) -> bool:
    """Hand all runs that are not trained to a launcher that starts them elsewhere; False: it starts them here."""
    from mmattn.training.launch.launcher import launcher_of
    from mmattn.training.run.directory import read_config

    todo = [cell for cell in cells if not cell.trained]
    if not todo or launcher_of(compose("train", todo[0].overrides)).here:
        return False
    for cell in todo:
        make_run(cell)
    configs = [read_config(cell.run) for cell in todo]
    launcher_of(configs[0]).start_all([cell.run for cell in todo], configs)
    say(f"{len(todo)} runs are trained elsewhere; the same command evaluates and compares them when they are finished")
    return True


def _mark(cell: Cell) -> None:
    """Before there is a config, so that no run of the plan is without."""
    write_atomically(cell.run / PLAN_FILE, json.dumps(cell.overrides, indent=1).encode())
