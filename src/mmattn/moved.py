"""Where classes stand now that the configs of earlier runs and checkpoints name by an older module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Module then -> module now. Only modules that a `_target_` can name.
MOVED = {
    "mmattn.data.adapters": "mmattn.data.manifest.adapters",
    "mmattn.data.sources": "mmattn.data.manifest.sources",
    "mmattn.data.features": "mmattn.data.features.read",
    "mmattn.data.shards": "mmattn.data.shards.read",
    "mmattn.data.tokenizer": "mmattn.data.prepare.tokenizer",
    "mmattn.data.transforms": "mmattn.data.prepare.clips",
    "mmattn.data.augment": "mmattn.data.prepare.augment.augment",
    "mmattn.data.picture_augment": "mmattn.data.prepare.augment.picture",
    "mmattn.data.sound_augment": "mmattn.data.prepare.augment.sound",
    "mmattn.training.optim": "mmattn.training.loop.optim",
    "mmattn.training.balance": "mmattn.training.loop.balance",
    "mmattn.training.average": "mmattn.training.loop.average",
    "mmattn.training.search": "mmattn.training.sweep.optuna",
    "mmattn.training.launch": "mmattn.training.launch.local",
    "mmattn.training.slurm": "mmattn.training.launch.slurm",
    "mmattn.training.torchrun": "mmattn.training.launch.torchrun",
    "mmattn.training.freeze": "mmattn.training.loop.freeze",
    "mmattn.training.multitask": "mmattn.training.loop.multitask",
    "mmattn.training.masked": "mmattn.training.pretrain.masked",
    "mmattn.training.contrastive": "mmattn.training.pretrain.contrastive",
    "mmattn.training.synchrony": "mmattn.training.pretrain.synchrony",
    "mmattn.training.self_critical": "mmattn.training.loop.self_critical",
}


def with_present_targets(spec: Any) -> Any:
    """`spec` with every `_target_` of an earlier version replaced by its present name."""
    if isinstance(spec, Mapping):
        return {
            key: present_target(value) if key == "_target_" else with_present_targets(value)
            for key, value in spec.items()
        }
    return [with_present_targets(each) for each in spec] if isinstance(spec, list) else spec


def present_target(target: Any) -> Any:
    """The present name of what `target` named; anything else stays."""
    # `mmattn.data.features` is now the folder of what was that module, so what stands in a module of today stays.
    if isinstance(target, str) and not target.startswith(tuple(f"{now}." for now in MOVED.values())):
        for then, now in MOVED.items():
            if target.startswith(f"{then}."):
                return now + target.removeprefix(then)
    return target
