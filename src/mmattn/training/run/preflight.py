"""What can be known of a training before anything is loaded: where it reads, where it writes. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE, expanded
from mmattn.training.directory.exclusive import check_free

CONFIG_FILE = "config.yaml"
_ATTENDS = ("fusion", "captions")


def check_beforehand(config: Config) -> None:
    """Raises UsageError for a source that is not there, a run that cannot be written, and heads that do not divide."""
    _check_run(config)
    _check_source(config["data"])
    for part in _ATTENDS:
        own = config.get(part) or {}
        dim, heads = own.get("dim"), own.get("heads")
        if isinstance(dim, int) and isinstance(heads, int) and (heads < 1 or dim % heads):
            raise UsageError(f"{part}.heads={heads}: dim {dim} does not divide into {heads} heads; set heads= or dim=")
    if (start := config.get("init_from")) is not None:
        found = expanded(str(start))
        if not (found / MODEL_FILE if found.is_dir() else found).is_file():
            raise UsageError(f"init_from={start}: no such run or model.safetensors")


def check_given(config: Config) -> None:
    """The same of a verb that reads: raises UsageError where its `run` or its source is not there."""
    if (run := config.get("run")) is not None and not expanded(str(run)).exists():
        raise UsageError(f"{run}: not a run directory, there is nothing of that name; train one with: mmattn train")
    if isinstance(config.get("data"), dict):
        _check_source(config["data"])


def _check_run(config: Config) -> None:
    if config["run"] is None:
        return
    run = Path(str(config["run"]))
    if (run / CONFIG_FILE).exists():
        check_free(run)
        raise UsageError(f"{run}: holds a run already; go on with mmattn train resume={run}, or name another run=")
    there = run.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{run}: cannot be written ({there} is no folder)")
    if not os.access(there, os.W_OK):
        raise UsageError(f"{run}: cannot be written ({there} is read-only)")


def _check_source(data: Config) -> None:
    """Of sources that read: a generated set is made where nothing is."""
    source = data.get("source") or {}
    if str(source.get("_target_", "")).endswith("AVShapesSource"):
        return
    root = expanded(str(data["root"]))
    if not root.exists():
        raise UsageError(f"data.root={data['root']}: no such directory; set data.root=DIR to your videos")
    if not root.is_dir():
        raise UsageError(f"data.root={data['root']}: not a directory; it is a folder of media, or with a manifest")
    if (name := source.get("manifest")) and not (root / str(name)).is_file():
        raise UsageError(f"{root / str(name)}: no such manifest")
