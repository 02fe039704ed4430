"""The callbacks of a training, in their order."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger

from mmattn.config.compose import Config, build_optional
from mmattn.data.load.splits import SplitData
from mmattn.training.callbacks.epoch_position import KeepPlace
from mmattn.training.callbacks.keep_model import KeepModel
from mmattn.training.callbacks.log_steps import LogSteps
from mmattn.training.callbacks.machines import KeepMachines
from mmattn.training.callbacks.profile import ProfileSteps
from mmattn.training.callbacks.report import Report
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.callbacks.stop_on_signal import StopOnSignal
from mmattn.training.callbacks.threads import Threads, threads_of
from mmattn.training.callbacks.utilisation import utilisation
from mmattn.training.callbacks.wandb_charts import WandbCharts
from mmattn.training.logging.jsonl import JsonlLogger, KeepMetrics
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.timetable import Timetable
from mmattn.training.pretrain.module import KeepPretrained, PretrainModule


def callbacks_of(
    config: Config, run: Path, data: SplitData, module: TrainingModule, timetable: Timetable, loggers: list[Logger]
) -> list[Callback]:
    """Lightning calls them in this order; a callback whose position matters says so in its docstring."""
    options = config["trainer"]
    pretraining = isinstance(module, PretrainModule)
    keep = KeepPretrained if pretraining else KeepModel
    by = {"by": options.get("keep_by"), "mode": options.get("keep_mode"), "patience": options.get("patience", 0)}
    charts = WandbCharts(module.model.task.vocabulary.families, config["logger"].get("clips", 0))
    csv = next((logger for logger in loggers if isinstance(logger, CSVLogger)), None)
    measured = utilisation(config)
    callbacks: list[Callback | None] = [
        timetable,
        keep(run, config, data.clip, **by),
        build_optional(config, "freeze"),
        build_optional(config, "weight_average"),
        measured,
        LogSteps(options.get("log_every", 10), measured),
        StopOnSignal(run, module.consensus, timetable, options.get("save_every", 0)),
        KeepPlace(data.digest),
        *(KeepMetrics(logger, csv) for logger in loggers if isinstance(logger, JsonlLogger)),
        SeedSteps(config["seed"]),
        Threads(threads_of(config)),
        KeepMachines(run),
        Report(run.name),
        ProfileSteps(run) if options.get("profile") else None,
        None if pretraining else charts,
    ]
    return [callback for callback in callbacks if callback is not None]
