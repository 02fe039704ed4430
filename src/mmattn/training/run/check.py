"""Builds and checks everything a run needs, before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from mmattn.config.compose import Config, build, build_optional
from mmattn.data.build import build_data
from mmattn.data.load.clip_data import ClipData
from mmattn.data.load.splits import SplitData
from mmattn.data.load.used import media_used
from mmattn.errors import UsageError
from mmattn.model import AVModel, build_model, tokenizer_of, vocabulary_of, with_frames
from mmattn.training.callbacks.profile import check_profile
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.logging.loggers import check_logger
from mmattn.training.loop.timetable import timetable_of
from mmattn.training.pretrain.start_from import start_from
from mmattn.training.run.task_checks import check_tasks
from mmattn.training.run.trainer import make_trainer, quiet_lightning
from mmattn.training.sharding.check import check_shardable

OPTIONAL_PARTS = ("modality_balance", "multitask", "self_critical", "freeze", "weight_average")
LEAST = {"epochs": 1, "devices": 1, "accumulate": 1, "log_every": 1, "save_every": 0, "threads": 0}
CHOICES = {  # of keys of trainer, with the value of a run created before the key existed
    "strategy": ("ddp", ("ddp", "fsdp")),
    "precision": ("32-true", ("32", "32-true", "bf16-mixed", "16-mixed")),
    "matmul": ("high", ("highest", "high", "medium")),
}


def check(config: Config) -> tuple[SplitData, AVModel]:
    """Build everything a run needs, so that a fault shows before anything is written. Raises UsageError.

    Devices of other machines are not checked. Up to the data no clip is needed; building a generated set renders it.
    """
    check_machine_settings(config)
    parts = _check_parts(config)
    check_tasks(config)
    build_optional(config, "pretrain")
    data = build_data(with_frames(config, parts["visual"])["data"])
    model = build_model(config, vocabulary_of(config, data), tokenizer_of(config, data), parts)
    if config.get("init_from"):
        start_from(model, Path(config["init_from"]))
    data.check_readable()
    if isinstance(data, ClipData) and (share := media_used(data)):
        print(share, file=sys.stderr)
    _note_random_weights(config)
    return data, model


def check_machine_settings(config: Config) -> None:
    """Of trainer, launcher, logger and loader, of which some may change when a run is resumed. Raises UsageError."""
    _check_settings(config)
    _check_processes(config)
    _check_loader(config["data"])
    check_logger(config)


def _check_settings(config: Config) -> None:
    options: Mapping[str, Any] = config["trainer"]
    if not config["seed"] >= 0:
        raise UsageError(f"seed={config['seed']}: expected 0 or more")
    for key, least in LEAST.items():
        if options.get(key, least) < least:
            raise UsageError(f"trainer.{key}={options[key]}: expected {least} or more")
    timetable_of(config)
    check_profile(options.get("profile"))
    if options.get("timeout_s", 1) <= 0:
        raise UsageError(f"trainer.timeout_s={options['timeout_s']}: expected more than 0")
    for key, (default, known) in CHOICES.items():
        if (value := str(options.get(key, default))) not in known:
            raise UsageError(f"trainer.{key}={value}: expected one of {', '.join(known)}")
    if build(config["optim"]).fused and options["precision"] == "16-mixed":
        raise UsageError("optim.fused=true cannot clip gradients that trainer.precision=16-mixed scales; leave it out")


def _check_loader(data: Config) -> None:
    for key in ("workers", "cache_gb"):
        if data.get(key, 0) < 0:
            raise UsageError(f"data.{key}={data[key]}: expected 0 or more")
    if data.get("deadline_s", 1) <= 0:
        raise UsageError(f"data.deadline_s={data['deadline_s']}: expected more than 0")


def _check_processes(config: Config) -> None:
    """How many there are, that the batch divides among them, and that this machine has their devices."""
    launcher, devices, batch = launcher_of(config), config["trainer"]["devices"], config["data"]["batch_size"]
    check_shardable(config, devices * launcher.nodes)
    for nodes in range(launcher.least, launcher.nodes + 1):
        if batch % (devices * nodes):
            raise UsageError(
                f"data.batch_size={batch} does not divide among trainer.devices={devices}"
                + (f" on each of launcher.nodes={nodes}" if launcher.nodes > 1 else "")
            )
    quiet_lightning()
    if launcher.here:
        make_trainer(config, Path(), [], [], AtomicCheckpointIO(), (LightningEnvironment(), devices, 1))


def _check_parts(config: Config) -> dict[str, Any]:
    """The encoders and the fusion, built."""
    parts = {name: build(config[name]) for name in ("visual", "audio", "fusion")}
    if regulariser := build_optional(config, "regulariser"):
        regulariser.check(parts["fusion"], config["dim"])
    for group in OPTIONAL_PARTS:
        build_optional(config, group)
    return parts


def _note_random_weights(config: Config) -> None:
    """Print a line for each pretrained network that starts without its pretrained weights."""
    for part in ("visual", "audio"):
        if "pretrained" in config[part] and not config[part]["pretrained"] and not config.get("init_from"):
            name = config[part]["_target_"].rpartition(".")[2]
            print(
                f"{part}: {name} starts from random weights; set {part}.pretrained= to its pretrained weights",
                file=sys.stderr,
            )
