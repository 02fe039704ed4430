"""Trains and evaluates one run of a sweep. Runs on the same data share the loaded clips."""

from __future__ import annotations

import json
from typing import Any

from mmattn.config.compose import Config
from mmattn.data.build import build_data
from mmattn.data.load.splits import SplitData
from mmattn.files import write_atomically
from mmattn.training.directory.frozen import read_config
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.run.evaluate import evaluate_run
from mmattn.training.run.prepare import prepare
from mmattn.training.sweep.points import Point


class Work:
    """`with Work(evaluate="test") as work: work.carry_out(point, config)`."""

    def __init__(self, evaluate: str | None) -> None:
        self.evaluate = evaluate
        self._data: SplitData | None = None
        self._data_config: Any = None

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def carry_out(self, point: Point, config: Config) -> None:
        """Do what is missing of the point. Raises MmattnError where it fails, Stopped on a signal."""
        if not point.finished:
            self.train(point, config)
        if self.evaluate and not point.is_done(self.evaluate):
            self._evaluate(point, self.evaluate)

    def train(self, point: Point, config: Config) -> None:
        """Train with the config's launcher; an existing run is resumed with its frozen config."""
        make_run(point, config)
        frozen = read_config(point.run)
        in_process = frozen["trainer"]["devices"] == 1
        launcher_of(frozen).start(point.run, frozen, self.data(frozen) if in_process else None)

    def data(self, config: Config) -> SplitData:
        """The data of a run; the previous run's where it is the same."""
        if self._data is None or config["data"] != self._data_config:
            self._close()
            self._data, self._data_config = build_data(config["data"]), config["data"]
        return self._data

    def _evaluate(self, point: Point, split: str) -> None:
        record, scores = point.evaluation(split)
        by_clip = scores.with_name(f"{record.stem}-clips.jsonl")
        result = evaluate_run(point.run, split, self.data(read_config(point.run)), by_clip=by_clip)
        write_atomically(record, json.dumps(result, indent=1).encode())

    def _close(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None


def make_run(point: Point, config: Config) -> None:
    """Create the run directory of the point if it does not exist."""
    if not point.begun:
        _, data = prepare(config)
        data.close()
