"""Where numbers go: always a local JSONL, which is the truth, and one of wandb, MLflow, ... beside it when asked.

Lightning's own logging is not used: it writes what steps found after the callbacks that save have run, so that a
checkpoint could not say which lines are before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import lightning
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mmattn.config.compose import Config
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.training.logging.jsonl import JsonlLogger
from mmattn.training.logging.wandb_run import WandbRun, wandb_run

MODES = ("wandb", "mlflow", "trackio", "csv", "tensorboard", "none")


EXTRAS = ("tensorboard", "mlflow", "trackio")  # packages that are installed when asked for


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
    if kind in EXTRAS and find_spec(kind) is None:
        raise UsageError(f"logger={kind}: not installed; pip install 'mmattn[{kind}]'")


def make_loggers(config: Config, run: Path) -> list[Logger]:
    """The JSONL logger and what `logger=` asks for."""
    loggers: list[Logger] = [JsonlLogger(run)]
    kind = config["logger"]["mode"]
    if kind == "csv":
        loggers.append(CSVLogger(run, name="csv", version=""))
    elif kind == "tensorboard":
        loggers.append(TensorBoardLogger(run, name="tensorboard", version=""))
    elif getattr(rank_zero_only, "rank", 0) == 0 and (other := _service(kind, config, run)):
        loggers.append(other)
    return loggers


def _service(kind: str, config: Config, run: Path) -> Logger | None:
    """What has a process or a database of its own, which is for the first process alone."""
    if kind == "wandb":
        return wandb_run(config, run)
    if kind == "mlflow":
        from mmattn.training.logging.mlflow_run import mlflow_run

        return mlflow_run(config, run)
    if kind == "trackio":
        from mmattn.training.logging.trackio_run import TrackioRun

        return TrackioRun(config, run)
    return None


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Tells the loggers how the body ended: well, stopped by a signal, or failed."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, (Stopped, KeyboardInterrupt))
        code = error.exit_code if isinstance(error, MmattnError) else 130 if stopped else 1
        _close(loggers, code, stopped)
        raise
    _close(loggers, 0, False)


def _close(loggers: Sequence[Logger], code: int, stopped: bool) -> None:
    for logger in loggers:
        logger.finalize("failed" if code else "success")
        if isinstance(logger, WandbRun):
            logger.end(code, stopped)
