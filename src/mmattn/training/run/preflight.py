"""Checks of a config before torch is imported: the source exists, and the run directory is free and writable."""

from __future__ import annotations

import os
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.data.manifest.sources import check_classes
from mmattn.errors import UsageError
from mmattn.files import MODEL_FILE, expanded
from mmattn.training.directory.exclusive import check_free
from mmattn.training.directory.names import CONFIG_FILE
from mmattn.training.run.task_checks import check_tasks

_PACKAGE = "package"  # of `pretrained`: the weights of an installed package
_WITH_HEADS = ("fusion", "captions")


def check_before_training(config: Config) -> None:
    """Raises UsageError for what is missing, a run that cannot be written, and heads that do not divide `dim`."""
    _check_run(config)
    _check_source(config["data"])
    check_tasks(config)
    _check_weights(config)
    for part in _WITH_HEADS:
        own = config.get(part) or {}
        dim, heads = own.get("dim"), own.get("heads")
        if isinstance(dim, int) and isinstance(heads, int) and (heads < 1 or dim % heads):
            raise UsageError(f"{part}.heads={heads}: dim {dim} does not divide into {heads} heads; set heads= or dim=")
    if (start := config.get("init_from")) is not None:
        found = expanded(str(start))
        if not (found / MODEL_FILE if found.is_dir() else found).is_file():
            raise UsageError(f"init_from={start}: no such run or model.safetensors")


def _check_weights(config: Config) -> None:
    """Raises UsageError for `pretrained=` of a part that is neither a file nor a folder nor to be downloaded."""
    for part in ("visual", "audio", "captions", "task"):
        own = config.get(part) or {}
        given = own.get("pretrained")
        if given not in (None, _PACKAGE) and not own.get("hub") and not expanded(str(given)).exists():
            other = f", or download a name with {part}.hub=true" if "hub" in own else ""
            raise UsageError(f"{part}.pretrained={given}: no such file or folder; set it to a path{other}")


def check_inputs(config: Config) -> None:
    """Raises UsageError where the `run` or the source that a verb reads does not exist."""
    if (run := config.get("run")) is not None and not expanded(str(run)).exists():
        raise UsageError(f"{run}: not a run directory, it does not exist; train one with: mmattn train")
    if isinstance(config.get("data"), dict):
        _check_source(config["data"])


def _check_run(config: Config) -> None:
    if config["run"] is None:
        return
    run = Path(str(config["run"]))
    if (run / CONFIG_FILE).exists():
        check_free(run)
        raise UsageError(f"{run}: already holds a run; continue it with mmattn train resume={run}, or set another run=")
    parent = run.absolute()
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise UsageError(f"{run}: cannot be written ({parent} is not a folder)")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{run}: cannot be written ({parent} is read-only)")


def _check_source(data: Config) -> None:
    """A generated data set is exempt: its folder is made when it is rendered."""
    source = data.get("source") or {}
    if str(source.get("_target_", "")).endswith("AVShapesSource"):
        return
    root = expanded(str(data["root"]))
    if not root.exists():
        raise UsageError(f"data.root={data['root']}: no such directory; set data.root=DIR to your videos")
    if not root.is_dir():
        raise UsageError(f"data.root={data['root']}: not a directory; set it to a folder of media, or with a manifest")
    if (name := source.get("manifest")) and not (root / str(name)).is_file():
        raise UsageError(f"{root / str(name)}: no such manifest")
    if not name and str(source.get("_target_", "")).endswith(".FolderSource"):
        check_classes(root)
