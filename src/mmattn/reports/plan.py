"""`mmattn compare plan=...`: train and evaluate every run of a grid that is not there yet, with an estimate before.

A run is done when its evaluation lies beside it, so the same command goes on wherever it was stopped.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.config import Config, compose, conf_dir
from mmattn.data.manifest import SPLITS
from mmattn.data.splits import SplitData
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.files import write_atomically
from mmattn.reports.collect import CONFIG_FILE, read_yaml
from mmattn.reports.fairness import clock
from mmattn.reports.significance import scores_file
from mmattn.training.rundir import FINISHED_FILE

PLAN_FILE = "plan.json"  # in a run directory: what the plan asked for
KEYS = ("out", "split", "grid", "overrides")
MOST = 10_000  # runs of a grid
STEPS = 3  # timed, after one that is not
EVALUATED = 2.5  # forward passes that an evaluation of a batch takes, about (docs/weighting.md)


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
        own = tuple(f"{key}={value}" for key, value in zip(grid, values, strict=True))
        name = "-".join(re.sub(r"[^\w.+]+", "_", f"{key.rpartition('.')[2]}_{value}" if _is_bare(value) else str(value))
                        for key, value in zip(grid, values, strict=True))  # fmt: skip
        run = Path(out) / name
        cells.append(Cell(run, (*common, *own, f"run={run}"), split))
    if len({cell.run for cell in cells}) < len(cells):
        raise UsageError(f"{path}: grid: two combinations have the same name; list every value once")
    return Path(out), cells


def carry_out(path: Path, dry: bool = False) -> Path:
    """Train and evaluate what is missing; returns the folder of the runs. `dry`: only say what that would take.

    A run that fails is told and left out. Raises MmattnError when all do, Stopped on a signal.
    """
    out, cells = read_plan(path)
    for cell in cells:
        cell.check_ours()
    todo = [cell for cell in cells if not cell.done]
    _say(f"{path}: {len(cells)} runs, {len(cells) - len(todo)} of them done")
    if not todo:
        return out
    work = _Work()
    fit = _that_fit(todo, work)
    if dry:
        work.close()
        return out
    if _submitted(fit):
        fit = [cell for cell in fit if cell.trained]
    started, failed = time.monotonic(), 0
    try:
        for number, cell in enumerate(fit, start=1):
            took = time.monotonic() - started
            left = f", about {clock(took / (number - 1) * (len(fit) - number + 1))} left" if number > 1 else ""
            _say(f"[{number}/{len(fit)}] {cell.run}{left}")
            try:
                work.carry_out(cell)
            except Stopped:
                raise
            except MmattnError as error:
                failed += 1
                _say(f"{cell.run}: failed, and is left out: {error}")
    finally:
        work.close()
    if failed and failed == len(fit) == len(cells):
        raise MmattnError(f"{path}: all {failed} runs failed; the first message is above")
    return out


class _Work:
    """Trains and evaluates; runs on the same data share the clips that were read."""

    def __init__(self) -> None:
        self._data: SplitData | None = None
        self._data_config: Any = None

    def data(self, config: Config) -> SplitData:
        from mmattn.data.module import build_data

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
        from mmattn.training.evaluate import evaluate_run
        from mmattn.training.launcher import launcher_of
        from mmattn.training.rundir import read_config

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
    from mmattn.training.launch import prepare

    if (cell.run / CONFIG_FILE).is_file():
        return
    config = compose("train", cell.overrides)
    _mark(cell)
    _, data = prepare(config)
    data.close()


def _submitted(cells: Sequence[Cell]) -> bool:
    """Hand all runs that are not trained to a launcher that starts them elsewhere; False: it starts them here."""
    from mmattn.training.launcher import launcher_of
    from mmattn.training.rundir import read_config

    todo = [cell for cell in cells if not cell.trained]
    if not todo or launcher_of(compose("train", todo[0].overrides)).here:
        return False
    for cell in todo:
        make_run(cell)
    configs = [read_config(cell.run) for cell in todo]
    launcher_of(configs[0]).start_all([cell.run for cell in todo], configs)
    _say(f"{len(todo)} runs are trained elsewhere; the same command evaluates and compares them when they are finished")
    return True


def _mark(cell: Cell) -> None:
    """Before there is a config, so that no run of the plan is without."""
    write_atomically(cell.run / PLAN_FILE, json.dumps(cell.overrides, indent=1).encode())


def _that_fit(cells: Sequence[Cell], work: _Work) -> list[Cell]:
    """The cells that can be built, with a word on the others and on how long it will take.

    Of the cells that differ only in their seed one is built and timed for a few steps.
    """
    seconds, fit, seen = 0.0, [], {}
    for cell in cells:
        kind = tuple(one for one in cell.overrides if not one.startswith(("seed=", "run=")))
        if kind not in seen:
            seen[kind] = _timed(cell, work)
            if isinstance(seen[kind], str):
                _say(f"{' '.join(kind[-2:])}: left out: {seen[kind]}")
        took = seen[kind]
        if not isinstance(took, str):
            seconds += took
            fit.append(cell)
    if not fit:
        raise UsageError("none of the runs can be built; the reasons are above")
    known = sum(not isinstance(took, str) for took in seen.values())
    _say(
        f"{len(fit)} runs to do, about {clock(seconds)} on this machine ({STEPS} steps timed of each of {known} models)"
    )
    return fit


def _timed(cell: Cell, work: _Work) -> float | str:
    """Seconds that the cell will take, or why it cannot be built."""
    from mmattn.data.features import with_frozen_encoders
    from mmattn.model import build_model, tokenizer_of, vocabulary_of

    try:
        config = with_frozen_encoders(compose("train", cell.overrides))
        if "attention" not in config["fusion"] and _attention(cell) not in (None, "dense"):
            return "this fusion has no attention, so it is there once, as dense"
        data = work.data(config)
        model = build_model(config, vocabulary_of(config, data), tokenizer_of(config, data))
        batch = next(iter(data.loader(data.dataset("val", vocabulary=vocabulary_of(config, data)), train=False)))
    except MmattnError as error:
        return str(error)
    threads = torch.get_num_threads()
    torch.set_num_threads(config["trainer"]["threads"] or threads)
    try:
        step, forward = _step_times(model, batch)
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    finally:
        torch.set_num_threads(threads)
    size, options = config["data"]["batch_size"], config["trainer"]
    batches = {split: -(-len(data.rows[split]) // size) for split in SPLITS}
    validations = -(-options["epochs"] // options["validate_every"])
    evaluated = EVALUATED * forward * (validations * batches["val"] + batches[cell.split])
    return options["epochs"] * batches["train"] * step + evaluated


def _step_times(model: Any, batch: Any) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and of a forward pass: the quickest of a few."""
    steps, forwards = [], []
    for _ in range(STEPS + 1):
        started = time.monotonic()
        fused = model.fuse(*model.encode(batch))
        values = [stream.values.square().mean() for stream in (fused.video, fused.audio)]
        forwards.append(time.monotonic() - started)
        torch.stack(values).sum().backward()
        steps.append(time.monotonic() - started)
        model.zero_grad()
    return min(steps[1:]), min(forwards[1:])


def _attention(cell: Cell) -> str | None:
    return next((one.partition("=")[2] for one in reversed(cell.overrides) if one.startswith("attention=")), None)


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
    """A number says nothing without its key."""
    return isinstance(value, (int, float))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
