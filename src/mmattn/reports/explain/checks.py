"""Checks of `mmattn explain` before torch is imported and the model is loaded."""

from __future__ import annotations

import re
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.files import check_has_model, check_writable, expanded
from mmattn.process.device import check_device

NAME = "explain"


def check(config: Config) -> None:
    """Raises UsageError for wrong settings, a missing model or file, and a place that is not a directory."""
    if config["heat"] not in ("causal", "attention"):
        raise UsageError(f"heat={config['heat']}: expected causal or attention")
    check_device(config["device"])
    run, source, out = expanded(str(config["run"])), expanded(str(config["source"])), folder_of(config)
    check_has_model(run)
    if source.is_dir():
        raise UsageError(f"source={source}: is a directory; explain takes one file")
    if not source.exists():
        raise UsageError(f"source={config['source']}: no such file")
    if out.exists() and not out.is_dir():
        raise UsageError(f"out={out}: not a directory; name the directory to write into")
    check_writable(out, f"out={out}")


def folder_of(config: Config) -> Path:
    """The directory to write into."""
    if config["out"] is not None:
        return Path(str(config["out"]))
    plain = re.sub(r"[^\w.-]+", "_", expanded(str(config["source"])).stem)[:80]
    return Path("runs") / f"{NAME}-{plain or 'file'}"
