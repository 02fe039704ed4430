"""metrics.jsonl: every number that is logged, as JSON lines in the run directory."""

from __future__ import annotations

import json
import math
import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

METRICS_FILE = "metrics.jsonl"


class JsonlLogger(Logger):
    """One JSON line for each log: step, epoch, seconds since the start, and the metrics."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._path = run / METRICS_FILE
        self._started = time.monotonic()

    @property
    def name(self) -> str:
        return "jsonl"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any) -> None:
        """Nothing to do: the config is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        numbers = {name: value for name, value in metrics.items() if math.isfinite(value)}
        record = {"step": step, "time": round(time.monotonic() - self._started, 3), **numbers}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def place(self) -> dict[str, float]:
        """The length of the file, and its clock in seconds."""
        length = self._path.stat().st_size if self._path.is_file() else 0
        return {"bytes": length, "seconds": time.monotonic() - self._started}

    def continue_from(self, place: dict[str, float]) -> None:
        """Drop the lines after `place`: their steps will be repeated."""
        self._started = time.monotonic() - place["seconds"]
        if self._path.is_file() and self._path.stat().st_size > place["bytes"]:
            os.truncate(self._path, int(place["bytes"]))

    def lines(self) -> list[dict[str, Any]]:
        """What has been logged so far."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.is_file() else []


class KeepMetrics(Callback):
    """On resume, removes the lines that were logged after the checkpoint, so that no step appears twice.

    Without a checkpoint all steps are repeated. `csv`: Lightning's, which drops what an earlier process wrote to its
    file; it gets the lines again.
    """

    def __init__(self, logger: JsonlLogger, csv: CSVLogger | None = None) -> None:
        self.logger = logger
        self.csv = csv
        self._place = {"bytes": 0, "seconds": 0.0}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.logger.continue_from(self._place)
        if self.csv:
            for line in self.logger.lines():
                self.csv.log_metrics({name: line[name] for name in line if name not in ("step", "time")}, line["step"])
            self.csv.save()

    def state_dict(self) -> dict[str, Any]:
        return self.logger.place()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict
