"""The loggers of a run: metrics.jsonl always, and the one that `logger=` names, such as wandb or MLflow.

Lightning's own logging is not used: it writes the metrics of a step after the callbacks that save have run, so a
checkpoint could not record which lines belong to it.
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
EXTRAS = ("tensorboard", "mlflow", "trackio")  # extras, which have to be installed


def log(trainer: lightning.Trainer, numbers: dict[str, float]) -> None:
    """Log to all loggers of the run, on rank 0, at the current step."""
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
    """The JSONL logger and the one that `logger=` chose."""
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
    """A logger with a process or database of its own, which only rank 0 uses."""
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
    """Close the loggers with how the body ended: finished, stopped by a signal, or failed."""
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
