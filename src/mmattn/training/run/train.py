"""Training one run in this process, from its frozen config. Ranks of a distributed run each call `train`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback

from mmattn.config.compose import Config
from mmattn.data.load.module import build_data
from mmattn.data.load.passing import lost_worker
from mmattn.data.manifest.splits import SplitData
from mmattn.files import write_atomically
from mmattn.model import build_model, tokenizer_of, vocabulary_of
from mmattn.training.callbacks.keep_model import KeepModel
from mmattn.training.callbacks.log_steps import LogSteps
from mmattn.training.callbacks.machines import KeepMachines
from mmattn.training.callbacks.place import KeepPlace
from mmattn.training.callbacks.profile import ProfileSteps
from mmattn.training.callbacks.report import Report
from mmattn.training.callbacks.seed import SeedSteps
from mmattn.training.callbacks.stop_on_signal import StopOnSignal
from mmattn.training.callbacks.taken_over import StopIfTaken
from mmattn.training.callbacks.threads import Threads, threads_of
from mmattn.training.callbacks.utilisation import utilisation
from mmattn.training.callbacks.wandb_charts import WandbCharts
from mmattn.training.checkpoints.atomic import LAST, AtomicCheckpointIO, newest_whole
from mmattn.training.checkpoints.left_out import to_go_on
from mmattn.training.directory.exclusive import alone
from mmattn.training.directory.frozen import read_config
from mmattn.training.directory.names import FINISHED_FILE, UNREADABLE_FILE
from mmattn.training.distributed.group import from_first, joined
from mmattn.training.logging.jsonl import JsonlLogger, KeepMetrics
from mmattn.training.logging.loggers import closing, make_loggers
from mmattn.training.loop.module import TrainingModule
from mmattn.training.optim.adamw import optim_of
from mmattn.training.pretrain.module import KeepPretrained, PretrainModule
from mmattn.training.pretrain.start_from import start_from
from mmattn.training.run.summary import summary
from mmattn.training.run.trainer import _optional, _processes, _quiet_lightning, _sharded, _timetable, _trainer
from mmattn.training.sharding.blocks import compile_parts, recompute
from mmattn.training.sharding.module import ShardedModule

CALLBACKS = ("freeze", "weight_average")  # optional groups


TIMEOUT_S = 1800.0  # of a run from before there was a choice


def train(run: Path, data: SplitData | None = None) -> None:
    """Train to the end, or on from the last checkpoint if there is one; alone in `run`, for which rank 0 stands.

    Raises Stopped on SIGINT or SIGTERM, UsageError where another process trains in `run`.
    """
    config = read_config(run)
    if "SLURM_JOB_ID" in os.environ:  # its warning must not end what has not begun to listen, here or in children
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    processes = _processes(config)
    environment = processes[0]  # there is no trainer yet to ask for the rank
    own = isinstance(environment, LightningEnvironment)
    rank = environment.local_rank() if own else environment.global_rank()
    # torchrun starts processes anew only when it has ended all there were, on whatever host
    wait_s = 90.0 if int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) else 0.0
    with alone(run, wait_s=wait_s) if rank == 0 else nullcontext() as lease:
        options = config["trainer"]
        with joined(processes, options["accelerator"], options.get("timeout_s", TIMEOUT_S)):
            _train(run, config, data, [StopIfTaken(run, lease)] if lease else [], rank)


def _train(run: Path, config: Config, data: SplitData | None, first: list[Callback], rank_here: int) -> None:
    ready = data or build_data(config["data"])
    threads = threads_of(config)
    torch.set_num_threads(threads)
    torch.manual_seed(config["seed"])
    last = from_first(lambda: newest_whole(run))
    settings = to_go_on(config) if last else config  # the checkpoint has the weights
    vocabulary, tokenizer = vocabulary_of(config, ready), tokenizer_of(config, ready)
    model = build_model(settings, vocabulary, tokenizer)
    model.load_state_dict(model.state_dict() | ready.encoder_weights())
    options = [_optional(config, group) for group in ("regulariser", "modality_balance", "multitask", "self_critical")]
    if config.get("init_from") and not last:
        start_from(model, Path(config["init_from"]), quiet=rank_here > 0)
    if config["trainer"].get("recompute"):
        recompute(model)
    objective, timetable = _optional(config, "pretrain"), _timetable(config["trainer"])
    if objective:
        module: TrainingModule = PretrainModule(model, optim_of(config), objective, timetable.max_steps)
    else:
        kind = ShardedModule if _sharded(config["trainer"], _processes(config)) else TrainingModule
        module = kind(model, optim_of(config), *options, max_steps=timetable.max_steps)
    if config["trainer"].get("compile"):
        compile_parts(model)
    if module.self_critical:
        module.self_critical.prepare([row.captions for row in ready.rows["train"] if row.captions])
    _quiet_lightning()
    loggers = make_loggers(config, run)
    chosen = [callback for group in CALLBACKS if (callback := _optional(config, group))]
    callbacks = [  # each place has a reason, which its docstring gives
        *first,
        timetable,
        (KeepPretrained if objective else KeepModel)(run, config, ready.clip, **_kept_by(config)),
        *chosen,
        *([measured] if (measured := utilisation(config)) else []),
        LogSteps(config["trainer"].get("log_every", 10), measured),
        StopOnSignal(run, module.agreement, timetable, config["trainer"].get("save_every", 0)),
        KeepPlace(ready.digest),
        *(KeepMetrics(logger) for logger in loggers if isinstance(logger, JsonlLogger)),
        SeedSteps(config["seed"]),
        Threads(threads),
        KeepMachines(run),
        Report(run.name),
    ]
    if config["trainer"].get("profile"):
        callbacks += [ProfileSteps(run)]
    if not objective:
        callbacks += [WandbCharts(vocabulary.families, config["logger"].get("clips", 0))]
    keeping = AtomicCheckpointIO(damaged_last=last is not None and last != run / LAST)
    trainer = _trainer(config, run, loggers, callbacks, keeping, _processes(config))
    rank, world = trainer.global_rank, trainer.world_size
    ready.quarantine.keep_in(run / UNREADABLE_FILE)
    train_loader = ready.loader(
        ready.dataset("train", train=True, vocabulary=vocabulary), train=True, rank=rank, world=world
    )
    val_loader = ready.loader(ready.dataset("val", vocabulary=vocabulary), train=False, rank=rank, world=world)
    on_gpu = trainer.strategy.root_device.type == "cuda"
    for loader in (train_loader, val_loader):
        loader.pin_memory = on_gpu and config["trainer"].get("pin_memory", True)
    if on_gpu:
        torch.set_float32_matmul_precision(config["trainer"].get("matmul", "highest"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging intervals
        warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
        try:
            with closing(loggers):
                trainer.fit(module, train_loader, val_loader, ckpt_path=str(last) if last else None)
        except RuntimeError as error:
            raise lost_worker(error) or error from None
    if rank == 0:
        record = {"step": trainer.global_step, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        write_atomically(run / FINISHED_FILE, json.dumps(record).encode())
        print(summary(run, ready), file=sys.stderr)
    if rank == 0 and ready.quarantine.reasons:
        print(f"{run}: {ready.quarantine.left_out()}", file=sys.stderr)


def _kept_by(config: Config) -> dict[str, Any]:
    options = config["trainer"]
    return {"by": options.get("keep_by"), "mode": options.get("keep_mode"), "patience": options.get("patience", 0)}
