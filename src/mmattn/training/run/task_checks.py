"""Which tasks, encoders and options can be trained together, by the config alone. No torch."""

from __future__ import annotations

from mmattn.config.compose import Config
from mmattn.config.targets import NO_ENCODER, NO_TAGS
from mmattn.errors import UsageError

BY_TAGS = "mmattn.training.modality_balance.ogm_ge.OgmGe"


def check_tasks(config: Config) -> None:
    """Raises UsageError for what the chosen tasks cannot be trained with."""
    if all(config[part]["_target_"] == NO_ENCODER for part in ("visual", "audio")):
        raise UsageError("visual=none and audio=none leave nothing to learn from; choose an encoder for one of them")
    for group in ("pretrain", "modality_balance"):
        if config.get(group) and (lacking := [m for m in ("visual", "audio") if config[m]["_target_"] == NO_ENCODER]):
            raise UsageError(f"{group} is between audio and video, and {lacking[0]}=none; set {group}=null")
    if config.get("pretrain"):
        _check_pretraining(config)
    elif config.get("captions"):
        _check_captions(config)
    elif config["task"]["_target_"] == NO_TAGS:
        raise UsageError("task=none and captions=null leave nothing to learn; choose captions=transformer")
    elif config.get("self_critical"):
        raise UsageError("self_critical rewards captions, and captions=null; choose captions=transformer")


def _check_captions(config: Config) -> None:
    if config["data"].get("augment", {}).get("mixup"):
        raise UsageError("data.augment.mixup mixes clips, but captions of two clips cannot be mixed; set it to 0")
    if (config.get("modality_balance") or {}).get("_target_") == BY_TAGS and config["task"]["_target_"] == NO_TAGS:
        raise UsageError("modality_balance=ogm_ge needs tags, and task=none has none; choose unimodal_losses, or null")


def _check_pretraining(config: Config) -> None:
    """Raises UsageError for options that have no effect without tasks."""
    for group in ("captions", "self_critical", "modality_balance", "weight_average", "regulariser"):
        if config.get(group):
            raise UsageError(f"pretrain learns without tasks, so {group} has no effect; set {group}=null")
    for key in ("keep_by", "keep_mode", "patience"):
        if value := config["trainer"].get(key):
            raise UsageError(f"trainer.{key}={value}: pretrain keeps the last model; leave it out")
    if config["data"].get("augment", {}).get("mixup"):
        raise UsageError("pretrain compares and restores clips, and mixup mixes them; set data.augment.mixup=0")
