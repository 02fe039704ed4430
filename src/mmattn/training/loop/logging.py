"""Where numbers go: always a local JSONL, which is the truth, and wandb, TensorBoard or CSV beside it when asked.

Lightning's own logging is not used: it writes what steps found after the callbacks that save have run, so that a
checkpoint could not say which lines are before it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mmattn.config import Config
from mmattn.errors import UsageError
from mmattn.training.run.directory import run_id

MODES = ("wandb", "csv", "tensorboard", "none")
METRICS_FILE = "metrics.jsonl"
STEP = "trainer/global_step"  # as Lightning's wandb logger calls it


class JsonlLogger(Logger):
    """One JSON line for each time metrics are logged: step, epoch, seconds since the start, and the numbers."""

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
        """The config is in config.yaml; nothing to do."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        numbers = {name: value for name, value in metrics.items() if math.isfinite(value)}
        record = {"step": step, "time": round(time.monotonic() - self._started, 3), **numbers}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def place(self) -> dict[str, float]:
        """How far the file and its clock are."""
        length = self._path.stat().st_size if self._path.is_file() else 0
        return {"bytes": length, "seconds": time.monotonic() - self._started}

    def go_on(self, place: dict[str, float]) -> None:
        """Drop the lines after `place`: what they tell will be done again."""
        self._started = time.monotonic() - place["seconds"]
        if self._path.is_file() and self._path.stat().st_size > place["bytes"]:
            os.truncate(self._path, int(place["bytes"]))


class KeepMetrics(Callback):
    """A resumed run's numbers go on after the last that its checkpoint knows of, none twice."""

    def __init__(self, logger: JsonlLogger) -> None:
        self.logger = logger
        self._place: dict[str, float] | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._place and trainer.is_global_zero:
            self.logger.go_on(self._place)

    def state_dict(self) -> dict[str, Any]:
        return self.logger.place()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict


def log(trainer: lightning.Trainer, numbers: dict[str, float]) -> None:
    """To all loggers of the run, on the process that has them, as of the steps done so far."""
    numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
    if not trainer.is_global_zero or not numbers:
        return
    for logger in trainer.loggers:
        logger.log_metrics({**numbers, "epoch": trainer.current_epoch}, step=trainer.global_step)
        if not isinstance(logger, JsonlLogger):
            logger.save()


def check_logger(config: Config) -> None:
    """Raises UsageError for a logger that does not exist or is not installed."""
    kind = config["logger"]["mode"]
    if kind not in MODES:
        raise UsageError(f"logger.mode={kind}: expected one of {', '.join(MODES)}")
    if kind == "tensorboard" and find_spec("tensorboard") is None:
        raise UsageError("logger=tensorboard: not installed; pip install 'mmattn[tensorboard]'")


def make_loggers(config: Config, run: Path) -> list[Logger]:
    """The JSONL logger and what `logger=` asks for."""
    loggers: list[Logger] = [JsonlLogger(run)]
    kind = config["logger"]["mode"]
    if kind == "csv":
        loggers.append(CSVLogger(run, name="csv", version=""))
    elif kind == "tensorboard":
        loggers.append(TensorBoardLogger(run, name="tensorboard", version=""))
    elif kind == "wandb" and rank_zero_only.rank == 0 and (wandb := _wandb_logger(config, run)):
        loggers.append(wandb)
    return loggers


def _wandb_logger(config: Config, run: Path) -> Logger | None:
    """Offline unless online is asked for and there are credentials. A failing wandb never stops training."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    online = config["logger"]["online"] and has_credentials()
    if config["logger"]["online"] and not online:
        print("wandb: not logged in, so the run stays offline (wandb login, then wandb sync)", file=sys.stderr)
    for mode in ("online", "offline") if online else ("offline",):
        try:
            return _start_wandb(config, run, mode)
        except Exception as error:  # whatever wandb does, training goes on
            print(f"wandb: {mode} failed ({error}); metrics are in {run / METRICS_FILE}", file=sys.stderr)
    return None


def _start_wandb(config: Config, run: Path, mode: Literal["online", "offline"]) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    settings = wandb.Settings(init_timeout=25, disable_git=True, x_disable_stats=True, console="off")
    experiment = wandb.init(
        project=config["logger"]["project"],
        name=run.name,
        id=run_id(run),  # a run that was stopped and goes on is one run there too
        resume="allow" if mode == "online" else None,
        dir=str(run),
        mode=mode,
        config=config,
        settings=settings,
    )
    experiment.define_metric(STEP)  # the one axis, so that runs with batches of any size lie over each other
    experiment.define_metric("*", step_metric=STEP, step_sync=True)
    for metric, best in (("val/mAP", "max"), ("val/loss", "min")):
        experiment.define_metric(metric, step_metric=STEP, summary=best)
    return WandbLogger(experiment=experiment)


def has_credentials() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
