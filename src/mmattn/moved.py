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
    if isinstance(target, str):
        for then, now in MOVED.items():
            # `mmattn.data.features` is now the folder of what was that module, so a name below it that is itself a
            # module of today stays.
            if target.startswith(f"{then}.") and not target.startswith(f"{now}."):
                return now + target.removeprefix(then)
    return target
