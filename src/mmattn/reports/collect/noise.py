"""What training a run took, and how scores bear noise: read from what lies in the run directory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.reports.collect.runs import METRICS_FILE, Number, number

_NOISE = re.compile(r"^evaluation-(\w+?)-(\w+)([+-][\d.]+)dB\.json$")


@dataclass(frozen=True)
class Noise:
    """One evaluation with noise added to the sound: `snr_db` sound over noise, mAP and its Shapley split."""

    split: str
    kind: str
    snr_db: float
    mean: Number
    accuracy: Number
    video: Number
    audio: Number


def training_seconds(run: Path) -> float | None:
    """Wall time of training with its validations, summed over resumed parts; None where nothing was logged.

    A part that was cut off is counted up to what it logged last.
    """
    total = last = 0.0
    seen = False
    try:
        lines = (run / METRICS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        try:
            node = json.loads(line)
        except ValueError:
            continue
        time = number(node.get("time")) if isinstance(node, dict) else None
        if time is None:
            continue
        seen = True
        if time < last:  # the clock starts again where a run was resumed
            total += last
        last = time
    return total + last if seen else None


def noise_sweep(run: Path) -> tuple[Noise, ...]:
    """All evaluations with noise beside the run, by split, kind and loudness. One that is damaged is left out."""
    found = []
    for path in run.glob("evaluation-*dB.json"):
        match = _NOISE.match(path.name)
        if match is None:
            continue
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            metrics, split = record["metrics"], record["shapley"]
            values = (metrics["mAP"], metrics.get("mean_accuracy"), split["video"], split["audio"])
            found.append(Noise(match[1], match[2], float(match[3]), *map(number, values)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return tuple(sorted(found, key=lambda one: (one.split, one.kind, one.snr_db)))
