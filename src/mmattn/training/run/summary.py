"""The summary that is printed after training: scores, numbers of clips, and the next commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from mmattn.data.load.splits import SplitData
from mmattn.text import counted
from mmattn.training.directory.names import EVALUATION_FILE, SWEEP_FILE
from mmattn.training.logging.curves import headline


def summary(run: Path, data: SplitData) -> str:
    """A line on the saved model and lines with the next commands; only the first line for a run of a sweep."""
    counts = {split: len(rows) for split, rows in data.rows.items()}
    clips = f"{counted(counts['train'], 'clip')} to train on, {counts['val']} to validate"
    lines = [f"{run}: {_score(run / EVALUATION_FILE)}{clips}"]
    if (run.parent / SWEEP_FILE).is_file():
        return lines[0]
    name = shlex.quote(str(run))
    split = "test" if counts["test"] else "val"
    hints = (
        (f"mmattn evaluate run={name} split={split}", "its scores by tag, and how much they owe to audio and video"),
        (f"mmattn compare runs={name} out={name}/report.html", "a report of it"),
        (f"mmattn predict run={name} source=FILES", "tags of your files"),
    )
    width = max(len(command) for command, _ in hints)
    return "\n".join([*lines, "next:", *(f"  {command.ljust(width)}   {what}" for command, what in hints)])


def _score(file: Path) -> str:
    """The scores of the best epoch; "" where nothing was validated, as in pretraining."""
    try:
        evaluation = json.loads(file.read_text(encoding="utf-8"))
        found = headline(evaluation)
    except (OSError, ValueError, KeyError):
        return ""
    scores = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    return f"{scores} on validation clips after epoch {int(evaluation.get('epoch', 0)) + 1}; " if scores else ""
