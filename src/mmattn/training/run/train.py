"""Training one run in this process, from its frozen config. Ranks of a distributed run each call `train`."""

from __future__ import annotations

import json
import logging
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
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from mmattn.config.compose import Config, build
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.splits import SplitData
from mmattn.data.load.transfer import lost_worker
from mmattn.data.load.used import media_used
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.model import NO_TAGS, AVModel, build_model, tokenizer_of, vocabulary_of, with_frames
from mmattn.training.checkpoints.atomic import LAST, AtomicCheckpointIO, newest_whole
from mmattn.training.checkpoints.left_out import to_go_on
from mmattn.training.launch.launcher import launcher_of
from mmattn.training.launch.signals import StopOnSignal
from mmattn.training.logging.charts import WandbCharts
from mmattn.training.logging.loggers import JsonlLogger, KeepMetrics, check_logger, closing, make_loggers
from mmattn.training.logging.profile import ProfileSteps, check_profile
from mmattn.training.logging.steps import LogSteps
from mmattn.training.logging.utilisation import utilisation
from mmattn.training.loop.callbacks import KeepPlace, Report, SeedSteps
from mmattn.training.loop.keep import KeepModel
from mmattn.training.loop.module import TrainingModule
from mmattn.training.loop.threads import Threads, threads_of
from mmattn.training.loop.timetable import Timetable
from mmattn.training.optim.optim import optim_of
from mmattn.training.pretrain.module import KeepPretrained, PretrainModule, start_from
from mmattn.training.run.alone import alone
from mmattn.training.run.directory import FINISHED_FILE, UNREADABLE_FILE, read_config
from mmattn.training.run.group import Processes, from_first, joined
from mmattn.training.run.machines import KeepMachines
from mmattn.training.run.summary import summary
from mmattn.training.run.taken import StopIfTaken
from mmattn.training.sharding.blocks import compile_parts, recompute
from mmattn.training.sharding.sharding import ShardedModule, check_shardable
from mmattn.training.sharding.sharing import Sharing

CALLBACKS = ("freeze", "weight_average")  # optional groups
BY_TAGS = "mmattn.training.optim.balance.OgmGe"
TIMEOUT_S = 1800.0  # of a run from before there was a choice
PRECISIONS = ("32", "32-true", "bf16-mixed", "16-mixed")
NO_ENCODER = "mmattn.encoders.none.NoEncoder"


def check(config: Config) -> tuple[SplitData, AVModel]:
    """Build all a run needs, so that a fault shows before anything is written. Raises UsageError.

    What the devices can do is left open where they are not of this machine.
    """
    if not config["seed"] >= 0:
        raise UsageError(f"seed={config['seed']}: expected 0 or more")
    for key in ("epochs", "devices", "accumulate", "log_every"):
        if config["trainer"][key] < 1:
            raise UsageError(f"trainer.{key}={config['trainer'][key]}: expected 1 or more")
    if config["trainer"].get("save_every", 0) < 0:
        raise UsageError(f"trainer.save_every={config['trainer']['save_every']}: expected 0 or more")
    _timetable(config["trainer"])
    check_profile(config["trainer"].get("profile"))
    if config["trainer"].get("timeout_s", 1) <= 0:
        raise UsageError(f"trainer.timeout_s={config['trainer']['timeout_s']}: expected more than 0")
    if (strategy := config["trainer"].get("strategy", "ddp")) not in ("ddp", "fsdp"):
        raise UsageError(f"trainer.strategy={strategy}: expected ddp or fsdp")
    if str(precision := config["trainer"]["precision"]) not in PRECISIONS:
        raise UsageError(f"trainer.precision={precision}: expected {', '.join(PRECISIONS[1:])}")
    if (matmul := config["trainer"].get("matmul", "high")) not in ("highest", "high", "medium"):
        raise UsageError(f"trainer.matmul={matmul}: expected highest, high or medium")
    if build(config["optim"]).fused and precision == "16-mixed":
        raise UsageError("optim.fused=true cannot clip gradients that trainer.precision=16-mixed scales; leave it out")
    launcher = launcher_of(config)
    check_shardable(config, config["trainer"]["devices"] * launcher.nodes)
    devices, batch = config["trainer"]["devices"], config["data"]["batch_size"]
    for nodes in range(launcher.least, launcher.nodes + 1):
        if batch % (devices * nodes):
            raise UsageError(
                f"data.batch_size={batch} does not divide among trainer.devices={devices}"
                + (f" on each of launcher.nodes={nodes}" if launcher.nodes > 1 else "")
            )
    check_logger(config)
    _quiet_lightning()
    if launcher.here:
        _trainer(config, Path(), [], [], AtomicCheckpointIO(), (LightningEnvironment(), devices, 1))
    built = {name: build(config[name]) for name in ("visual", "audio", "fusion")}
    if regulariser := _optional(config, "regulariser"):
        regulariser.check(built["fusion"], config["dim"])
    for group in ("modality_balance", "multitask", "self_critical", *CALLBACKS):
        _optional(config, group)
    _check_tasks(config)
    data = build_data(with_frames(config, built["visual"])["data"])
    # What is above needs no clip; from here on a generated set is rendered.
    model = build_model(config, vocabulary_of(config, data), tokenizer_of(config, data), built)
    if config.get("init_from"):
        start_from(model, Path(config["init_from"]))
    data.check_readable()
    if isinstance(data, ClipData) and (said := media_used(data)):
        print(said, file=sys.stderr)
    _note_random(config)
    return data, model


def _note_random(config: Config) -> None:
    """A line for each ready-made network that begins without the weights it is known for."""
    for part in ("visual", "audio"):
        if "pretrained" in config[part] and not config[part]["pretrained"] and not config.get("init_from"):
            name = config[part]["_target_"].rpartition(".")[2]
            print(
                f"{part}: {name} starts from random weights; set {part}.pretrained= for those it is known for",
                file=sys.stderr,
            )


def _check_tasks(config: Config) -> None:
    """Raises UsageError for what the chosen tasks cannot be trained with."""
    for group in ("pretrain", "modality_balance"):
        if config.get(group) and (lacking := [m for m in ("visual", "audio") if config[m]["_target_"] == NO_ENCODER]):
            raise UsageError(f"{group} is between sound and picture, and {lacking[0]}=none; set {group}=null")
    if config.get("pretrain"):
        _check_pretraining(config)
        return
    if not config.get("captions"):
        if config["task"]["_target_"] == NO_TAGS:
            raise UsageError("task=none and captions=null leave nothing to learn; choose captions=transformer")
        if config.get("self_critical"):
            raise UsageError("self_critical rewards captions, and captions=null; choose captions=transformer")
        return
    if config["data"].get("augment", {}).get("mixup"):
        raise UsageError("data.augment.mixup mixes clips, but captions of two clips cannot be mixed; set it to 0")
    if (config.get("modality_balance") or {}).get("_target_") == BY_TAGS and config["task"]["_target_"] == NO_TAGS:
        raise UsageError(
            "modality_balance=ogm_ge goes by tags, and task=none has none; choose unimodal_losses, or null"
        )


def _check_pretraining(config: Config) -> None:
    """Raises UsageError for what has no say without tasks."""
    for group in ("captions", "self_critical", "modality_balance", "weight_average", "regulariser"):
        if config.get(group):
            raise UsageError(f"pretrain learns without tasks, so {group} has no say; set {group}=null")
    if config["trainer"].get("strategy") == "fsdp":
        raise UsageError("pretrain trains with copies of the weights; set trainer.strategy=ddp")
    if config["data"].get("augment", {}).get("mixup"):
        raise UsageError("pretrain compares and restores clips, and mixup mixes them; set data.augment.mixup=0")
    build(config["pretrain"])


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


def _timetable(options: Config) -> Timetable:
    return Timetable(options["validate_every"], options.get("validate_every_steps", 0), options.get("max_steps", 0))


def _kept_by(config: Config) -> dict[str, Any]:
    options = config["trainer"]
    return {"by": options.get("keep_by"), "mode": options.get("keep_mode"), "patience": options.get("patience", 0)}


def _optional(config: Config, group: str) -> Any:
    """What an optional group chose; None for nothing, as in the config of a run from before there was the group."""
    return build(config[group]) if config.get(group) else None


def _processes(config: Config) -> Processes:
    """How this process knows its rank, the processes of each node, and the nodes.

    Under torchrun its environment says it all, whatever launcher the run was made with.
    """
    if TorchElasticEnvironment.detect():
        world, here = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return TorchElasticEnvironment(), here, world // here
    launcher = launcher_of(config)
    return launcher.environment(), config["trainer"]["devices"], launcher.nodes


def _trainer(
    config: Config,
    run: Path,
    loggers: list[Logger],
    callbacks: list[Callback],
    keeping: AtomicCheckpointIO,
    processes: Processes,
) -> lightning.Trainer:
    """Raises UsageError for a device, precision or strategy that this machine does not have."""
    options = config["trainer"]
    environment, devices, nodes = processes
    settings: dict[str, Any] = {
        "accelerator": options["accelerator"],
        "devices": devices,
        "num_nodes": nodes,
        "strategy": _strategy(config, processes),
        "precision": options["precision"],
        "max_epochs": options["epochs"],
        "gradient_clip_val": options["gradient_clip"],
        "accumulate_grad_batches": options.get("accumulate", 1),
        "logger": loggers,
        "callbacks": callbacks,
        "plugins": [keeping, environment],
        "default_root_dir": run,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*fp16 is not supported on CPU")  # it would go on in another precision
            return lightning.Trainer(**settings)
    except (ValueError, RuntimeError, UserWarning, MisconfigurationException) as error:
        raise UsageError(f"trainer: {str(error).splitlines()[0]}") from None


def _sharded(options: Config, processes: Processes) -> bool:
    return options.get("strategy", "ddp") == "fsdp" and processes[1] * processes[2] > 1


def _strategy(config: Config, processes: Processes) -> Strategy | str:
    _, devices, nodes = processes
    if devices * nodes == 1:
        return "auto"
    if _sharded(config["trainer"], processes):
        options = config["trainer"]
        return Sharing(devices * nodes, options.get("shard", 0), parts=options.get("checkpoints") == "sharded")
    # Our buffers never change. Broadcasting them would make every validation batch wait for all processes, for ever
    # where one of them has a batch less. Frozen weights, and in pretraining those of the tasks, have no gradient that
    # the others could wait for.
    unused = bool(config.get("freeze") or config.get("pretrain"))
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused)


def _quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
