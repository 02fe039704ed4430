"""Training one run in this process, from its frozen config. Each rank of a distributed run calls `train`."""

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

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from mmattn.config.compose import Config, build_optional
from mmattn.data.build import build_data
from mmattn.data.load.splits import SplitData
from mmattn.data.load.transfer import lost_worker
from mmattn.files import write_atomically
from mmattn.model import AVModel, build_model, tokenizer_of, vocabulary_of, without_files
from mmattn.training.callbacks.taken_over import StopIfTaken
from mmattn.training.callbacks.threads import threads_of
from mmattn.training.checkpoints.atomic import LAST, AtomicCheckpointIO, newest_whole
from mmattn.training.checkpoints.left_out import resume_settings
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.directory.frozen import read_config
from mmattn.training.directory.names import FINISHED_FILE, UNREADABLE_FILE
from mmattn.training.distributed.group import from_first, joined
from mmattn.training.logging.loggers import closing, make_loggers
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.timetable import Timetable, timetable_of
from mmattn.training.optim.adamw import optim_of
from mmattn.training.pretrain.module import PretrainModule
from mmattn.training.pretrain.start_from import start_from
from mmattn.training.run.callbacks import callbacks_of
from mmattn.training.run.summary import summary
from mmattn.training.run.trainer import is_sharded, make_trainer, processes_of, quiet_lightning
from mmattn.training.sharding.blocks import compile_parts, recompute
from mmattn.training.sharding.meta import without_weights
from mmattn.training.sharding.module import ShardedModule

TIMEOUT_S = 1800.0  # for a run created before there was a setting
RESTART_WAIT_S = 90.0


def train(run: Path, data: SplitData | None = None) -> None:
    """Train to the end, from the last checkpoint if there is one. Rank 0 holds the lock of `run` meanwhile.

    Raises Stopped on SIGINT or SIGTERM, UsageError where another process trains in `run`.
    """
    config = read_config(run)
    if "SLURM_JOB_ID" in os.environ:  # a warning before training handles it must not end it, here or in children
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    processes = processes_of(config)
    environment = processes[0]  # there is no trainer yet that knows the rank
    on_this_machine = isinstance(environment, LightningEnvironment)
    rank = environment.local_rank() if on_this_machine else environment.global_rank()
    # torchrun restarts processes only after it has ended all of them, on whatever host
    wait_s = RESTART_WAIT_S if int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) else 0.0
    with exclusive(run, wait_s=wait_s) if rank == 0 else nullcontext() as lease:
        options = config["trainer"]
        with joined(processes, options["accelerator"], options.get("timeout_s", TIMEOUT_S)):
            _train(run, config, data, StopIfTaken(run, lease) if lease else None, rank)


def _train(run: Path, config: Config, data: SplitData | None, taken: StopIfTaken | None, rank: int) -> None:
    """The steps of a training, in order."""
    data = data or build_data(config["data"])
    _set_threads_and_seed(config)
    last = from_first(lambda: newest_whole(run))
    timetable = timetable_of(config)
    module = _module(config, data, timetable, last, rank)
    quiet_lightning()
    loggers = make_loggers(config, run)
    callbacks = callbacks_of(config, run, data, module, timetable, loggers)
    is_damaged = last is not None and last != run / LAST
    checkpoint_io = AtomicCheckpointIO(is_damaged, taken.check) if taken else AtomicCheckpointIO(is_damaged)
    callbacks = [taken, *callbacks] if taken else callbacks
    trainer = make_trainer(config, run, loggers, callbacks, checkpoint_io, processes_of(config))
    data.quarantine.keep_in(run / UNREADABLE_FILE)
    loaders = _loaders(config, data, module, trainer)
    with closing(loggers):
        _fit(trainer, module, loaders, last)
    if trainer.is_global_zero:
        _finish(run, data, trainer.global_step)


def _set_threads_and_seed(config: Config) -> None:
    torch.set_num_threads(threads_of(config))
    torch.manual_seed(config["seed"])


def _module(config: Config, data: SplitData, timetable: Timetable, last: Path | None, rank: int) -> TrainingModule:
    """The model with what trains it. `last`: the checkpoint whose weights will be loaded over the model's."""
    sharded = is_sharded(config, processes_of(config))
    model = _without_weights(config, data) if sharded and rank else _with_weights(config, data, last, quiet=rank > 0)
    groups = ("regulariser", "modality_balance", "multitask", "self_critical")
    options = [build_optional(config, group) for group in groups]
    if config["trainer"].get("recompute"):
        recompute(model)
    if objective := build_optional(config, "pretrain"):
        module: TrainingModule = PretrainModule(model, optim_of(config), objective, timetable.max_steps)
    else:
        kind = ShardedModule if sharded else TrainingModule
        module = kind(model, optim_of(config), *options, max_steps=timetable.max_steps)
    if config["trainer"].get("compile"):
        compile_parts(model)
    if module.self_critical:
        module.self_critical.prepare([row.captions for row in data.rows["train"] if row.captions])
    return module


def _with_weights(config: Config, data: SplitData, last: Path | None, quiet: bool) -> AVModel:
    """Those that the run starts with. `quiet`: another process prints what is to be known about them."""
    settings = resume_settings(config) if last else config
    model = build_model(settings, vocabulary_of(config, data), tokenizer_of(config, data))
    model.load_state_dict(model.state_dict() | data.encoder_weights())
    if config.get("init_from") and not last:
        start_from(model, Path(config["init_from"]), quiet=quiet)
    return model


def _without_weights(config: Config, data: SplitData) -> AVModel:
    """On the meta device: rank 0 will send this process its shards."""
    with without_weights():
        return build_model(without_files(config), vocabulary_of(config, data), tokenizer_of(config, data))


def _loaders(config: Config, data: SplitData, module: TrainingModule, trainer: lightning.Trainer) -> tuple[Any, Any]:
    """For training and validation, this process's share of each."""
    vocabulary = module.model.task.vocabulary
    share = {"rank": trainer.global_rank, "world": trainer.world_size}
    loaders = (
        data.loader(data.dataset("train", train=True, vocabulary=vocabulary), train=True, **share),
        data.loader(data.dataset("val", vocabulary=vocabulary), train=False, **share),
    )
    on_gpu = trainer.strategy.root_device.type == "cuda"
    for loader in loaders:
        loader.pin_memory = on_gpu and config["trainer"].get("pin_memory", True)
    if on_gpu:
        torch.set_float32_matmul_precision(config["trainer"].get("matmul", "highest"))
    return loaders


def _fit(trainer: lightning.Trainer, module: TrainingModule, loaders: tuple[Any, Any], last: Path | None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging intervals
        warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
        try:
            trainer.fit(module, *loaders, ckpt_path=str(last) if last else None)
        except RuntimeError as error:
            raise lost_worker(error) or error from None


def _finish(run: Path, data: SplitData, step: int) -> None:
    """Mark the run as finished, and print its summary."""
    record = {"step": step, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_atomically(run / FINISHED_FILE, json.dumps(record).encode())
    print(summary(run, data), file=sys.stderr)
    if data.quarantine.reasons:
        print(f"{run}: {data.quarantine.left_out()}", file=sys.stderr)
