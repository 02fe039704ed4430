"""`mmattn predict`: every file of a source gets exactly one JSON line, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from mmattn.checkpoint import load_model
from mmattn.config import Config
from mmattn.data.library import list_files
from mmattn.errors import UsageError
from mmattn.inference.pipeline import Predictor, Record
from mmattn.inference.pretrained import PretrainedTagger
from mmattn.media.isolate import IsolatedReader
from mmattn.progress import Progress


def predict(config: Config) -> str:
    """Tag the files of `source`; returns a summary. Files are decoded in a process that may crash or hang.

    Lines are collected in `<out>.part`, which becomes `out` when all are there. Raises UsageError when no file was
    readable (the lines are written all the same).
    """
    _check_device(config["device"])
    tagger = _tagger(config)
    for key in ("windows", "batch_size"):
        if config[key] < 1:
            raise UsageError(f"{key}={config[key]}: expected 1 or more")
    if not isinstance(config["source"], (str, int, float)):
        raise UsageError(f"source={config['source']}: expected one file or directory")
    files = list_files(Path(str(config["source"])))
    out = Path(str(config["out"]))
    if out.is_dir():
        raise UsageError(f"{out}: is a directory; out= names the file to write")
    part = out.with_name(out.name + ".part")
    counts: Counter[str] = Counter()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            IsolatedReader(deadline_s=config["deadline_s"], follow_symlinks=config["follow_symlinks"]) as reader,
            part.open("w", encoding="utf-8") as lines,
            Progress("predicting", len(files)) as progress,
        ):
            for done, record in enumerate(tagger(reader, files), start=1):
                lines.write(json.dumps(record, allow_nan=False) + "\n")
                counts[record.get("reason", "ok")] += 1
                progress.at(done)
            lines.flush()
            os.fsync(lines.fileno())
        part.replace(out)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror})") from None
    except KeyboardInterrupt:
        print(
            f"mmattn: {sum(counts.values())} of {len(files)} files are done, their lines are in {part}", file=sys.stderr
        )
        raise
    failed = {reason: count for reason, count in counts.items() if reason != "ok"}
    summary = f"{len(files)} files: {counts['ok']} tagged" + "".join(f", {n} {reason}" for reason, n in failed.items())
    if not counts["ok"]:
        raise UsageError(f"{config['source']}: no readable file ({summary}); reasons are in {out}")
    return f"{summary} -> {out}"


def _tagger(config: Config) -> Callable[[IsolatedReader, Sequence[Path]], Iterator[Record]]:
    """What makes the records, its weights loaded. Raises UsageError."""
    settings = {name: config[name] for name in ("threshold", "device")}
    if config["model"] is None and config["run"] is not None:
        checkpoint = load_model(Path(str(config["run"])), config.get("attention"))
        spans = {name: config[name] for name in ("windows", "batch_size")}
        return lambda reader, files: Predictor(checkpoint, reader=reader.read, **settings, **spans).records(files)
    if config["model"] != "pretrained" or config["run"] is not None:
        raise UsageError("give run=... for a trained model, or model=pretrained for tags without training")
    tagger = PretrainedTagger(weights=config["weights"], hub=config["hub"], modalities=config["modalities"], **settings)
    return lambda reader, files: tagger.records(files, reader)


def _check_device(name: str) -> None:
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name}: {str(error).splitlines()[0]}") from None
