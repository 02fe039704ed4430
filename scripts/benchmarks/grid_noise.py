"""How much babble runs bear: `python scripts/benchmarks/grid_noise.py RUN [RUN ...] [evaluate's key=value ...]`

Evaluates each run on clean sound and at each signal-to-noise ratio (`mmattn evaluate`; what was evaluated before is
read), and prints Markdown: word accuracy with both modalities, and of the same run with one of them taken away, and how
much of the accuracy above chance is owed to the picture (Shapley). Words are exclusive groups of tags, captions, or
both. The noise is keyed by noise.seed and the clip alone, so all runs hear the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mmattn.cli import main as mmattn
from mmattn.metrics.tags import group_accuracy
from mmattn.weighting.causal import SUBSETS, Subset, shapley
from mmattn.weighting.clip_scores import load_clip_scores

SNR_DB = (None, 10, 5, 0, -5, -10)  # None: clean
CAPTION_METRICS = {"word_accuracy": "words", "exact": "whole sentences", "cider_d": "CIDEr-D"}
HEADER = ["", *("clean" if snr is None else f"{snr} dB" for snr in SNR_DB)]


def main() -> None:
    runs = [Path(text) for text in sys.argv[1:] if "=" not in text]
    options = [text for text in sys.argv[1:] if "=" in text]
    if not runs:
        raise SystemExit(__doc__)
    lines = [row(HEADER), row(["---"] * len(HEADER))]
    for run in runs:
        records = [evaluated(run, snr, options) for snr in SNR_DB]
        for measure in records[0]:
            lines += told(f"{run.name}, {measure}", [record[measure] for record in records])
    print("\n".join(lines))


def evaluated(run: Path, snr: float | None, options: list[str]) -> dict[str, dict[Subset, float]]:
    """By measure, its value with each subset of modalities."""
    name = "-".join(["grid_noise", "clean" if snr is None else f"{snr:+g}dB", *(_short(option) for option in options)])
    out = run / f"{name}.json"
    if not out.is_file():
        noise = [] if snr is None else ["noise.kind=babble", f"noise.snr_db={snr}"]
        if code := mmattn(["evaluate", f"run={run}", f"out={out}", *noise, *options]):
            raise SystemExit(code)
    return by_tags(out) | by_captions(json.loads(out.read_text()))


def by_tags(out: Path) -> dict[str, dict[Subset, float]]:
    """The mean over the exclusive groups of the share of clips whose word is right."""
    found = load_clip_scores(out.with_name(f"{out.stem}-scores.safetensors"))
    if not found.groups:
        return {}
    right = {s: group_accuracy(found.scores[s], found.targets, found.groups).values() for s in SUBSETS}
    return {"tags": {subset: sum(values) / len(values) for subset, values in right.items()}}


def by_captions(record: dict[str, Any]) -> dict[str, dict[Subset, float]]:
    splits = record.get("captions", {}).get("shapley", {})
    return {told: splits[name]["value"] for name, told in CAPTION_METRICS.items() if name in splits}


def told(title: str, values: list[dict[Subset, float]]) -> list[str]:
    shares = [shapley(value) for value in values]
    of_picture = [split.video / (split.video + split.audio) for split in shares]
    return [
        row([f"{title}: both", *(f"**{value['both']:.3f}**" for value in values)]),
        row([f"{title}: sound alone", *(f"{value['audio']:.3f}" for value in values)]),
        row([f"{title}: picture alone", *(f"{value['video']:.3f}" for value in values)]),
        row([f"{title}: owed to sound", *(f"{split.audio:.3f}" for split in shares)]),
        row([f"{title}: owed to the picture", *(f"{split.video:.3f}" for split in shares)]),
        row([f"{title}: the picture's share", *(f"{share:.0%}" for share in of_picture)]),
    ]


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(option: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in option)


if __name__ == "__main__":
    main()
