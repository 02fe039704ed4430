"""Scores with noise in the audio, from the evaluations with noise in a run directory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.reports.collect.records import Number, number

_NOISY = re.compile(r"^evaluation-(\w+?)-(\w+)([+-][\d.]+)dB\.json$")


@dataclass(frozen=True)
class Noise:
    """One evaluation with noise added to the audio: `snr_db` audio over noise, mAP and its Shapley split."""

    split: str
    kind: str
    snr_db: float
    mean: Number
    accuracy: Number
    video: Number
    audio: Number


def noise_sweep(run: Path) -> tuple[Noise, ...]:
    """All evaluations with noise of the run, by split, kind and loudness. A damaged one is left out."""
    found = []
    for path in run.glob("evaluation-*dB.json"):
        match = _NOISY.match(path.name)
        if match is None:
            continue
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            metrics, split = record["metrics"], record["shapley"]
            values = (metrics["mAP"], metrics.get("mean_accuracy"), split["video"], split["audio"])
            found.append(Noise(match[1], match[2], float(match[3]), *map(number, values)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return tuple(sorted(found, key=lambda noise: (noise.split, noise.kind, noise.snr_db)))
