"""`mmattn explain`: what the tags of one file depend on, moment by moment and place by place."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mmattn.checkpoint import Checkpoint, load_model
from mmattn.config.compose import Config
from mmattn.errors import MediaError, MmattnError, UsageError
from mmattn.files import check_writable, expanded, write_atomically
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.model import AVModel

NAME = "explain"


def explain(config: Config) -> str:
    """Write the page, the video and the numbers; returns a line for the terminal.

    Raises UsageError for a wrong request and MmattnError for a file that cannot be read.
    """
    _check(config)
    checkpoint = load_model(Path(str(config["run"])))
    if not checkpoint.vocabulary.names:
        raise UsageError(
            f"run={config['run']}: this model only captions, so it has no tags to explain; mmattn predict shows what "
            "each word depends on"
        )
    source = expanded(str(config["source"]))
    if source.is_dir():
        raise UsageError(f"source={source}: is a directory; explain takes one file")
    out = Path(str(config["out"])) if config["out"] is not None else Path("runs") / f"{NAME}-{_plain(source)}"
    if out.exists() and not out.is_dir():
        raise UsageError(f"out={out}: not a directory; name the directory to write into")
    check_writable(out, f"out={out}")
    model = _on_device(checkpoint, config["device"])
    with IsolatedReader(deadline_s=config["deadline_s"], follow_symlinks=config["follow_symlinks"]) as reader:
        try:
            tags = _write(checkpoint, model, source, reader, out, config)
        except MediaError as error:
            raise MmattnError(str(error)) from None
    return f"{source}: {', '.join(tags)} -> {out / f'{NAME}.html'}"


def _check(config: Config) -> None:
    for key, least in (("tags", 1), ("masks", 2), ("height", 32)):
        if config[key] < least:
            raise UsageError(f"{key}={config[key]}: expected {least} or more")
    if config["heat"] not in ("causal", "attention"):
        raise UsageError(f"heat={config['heat']}: expected causal or attention")


def _on_device(checkpoint: Checkpoint, device: str) -> AVModel:
    try:
        return checkpoint.model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: {str(error).splitlines()[0]}") from None


def _write(
    checkpoint: Checkpoint, model: AVModel, source: Path, reader: IsolatedReader, out: Path, config: Config
) -> list[str]:
    """Explain the file and write everything; returns the tags that are shown."""
    from mmattn.reports.explain.explained import record
    from mmattn.reports.explain.page import render
    from mmattn.reports.explain.video import write_overlay
    from mmattn.reports.explain.windows import explained

    attention = config["heat"] == "attention"
    found = explained(checkpoint, model, source, reader, config)
    if attention and any(steps.looked is None for window in found.windows for steps in window.streams.values()):
        raise UsageError("heat=attention: the attention of this model has no weights to show; use heat=causal")
    out.mkdir(parents=True, exist_ok=True)
    stills = write_overlay(found, checkpoint.clip, reader, out / f"{NAME}.mp4", config["height"], attention)
    write_atomically(out / f"{NAME}.json", (json.dumps(record(found), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(out / f"{NAME}.html", render(found, stills, f"{NAME}.mp4", attention))
    return found.tags


def _plain(source: Path) -> str:
    return re.sub(r"[^\w.-]+", "_", source.stem)[:80] or "file"
