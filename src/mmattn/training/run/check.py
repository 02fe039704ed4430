"""Everything a run needs, built and checked before anything is written."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from mmattn.config.compose import Config, build
from mmattn.data.load.module import ClipData, build_data
from mmattn.data.load.used import media_used
from mmattn.data.manifest.splits import SplitData
from mmattn.errors import UsageError
from mmattn.model import NO_TAGS, AVModel, build_model, tokenizer_of, vocabulary_of, with_frames
from mmattn.training.callbacks.profile import check_profile
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.distributed.launcher import launcher_of
from mmattn.training.logging.loggers import check_logger
from mmattn.training.pretrain.start_from import start_from
from mmattn.training.run.train import CALLBACKS
from mmattn.training.run.trainer import _optional, _quiet_lightning, _timetable, _trainer
from mmattn.training.sharding.check import check_shardable

BY_TAGS = "mmattn.training.modality_balance.ogm_ge.OgmGe"


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
