"""How much babble runs bear: `python scripts/benchmarks/grid_noise.py RUN[,RUN...] [...] [evaluate's key=value ...]`

Runs joined by commas differ by their seed: their means are told, with the deviation between them.
Evaluates each run on clean sound and at each signal-to-noise ratio (`mmattn evaluate`; what was evaluated before is
read), and prints Markdown: word accuracy with both modalities, and of the same run with one of them taken away, and how
much of the accuracy above chance is owed to the picture (Shapley). Words are exclusive groups of tags, captions, or
both. The noise is keyed by noise.seed and the clip alone, so all runs hear the same.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from mmattn.cli.main import main as mmattn
from mmattn.metrics.tags import group_accuracy
from mmattn.weighting.causal import SUBSETS, Subset, shapley
from mmattn.weighting.clip_scores import load_clip_scores

SNR_DB = (None, 10, 5, 0, -5, -10)  # None: clean
CAPTION_METRICS = {"word_accuracy": "words", "exact": "whole sentences", "cider_d": "CIDEr-D"}
HEADER = ["", *("clean" if snr is None else f"{snr} dB" for snr in SNR_DB)]


def main() -> None:
    groups = [[Path(name) for name in text.split(",")] for text in sys.argv[1:] if "=" not in text]
    options = [text for text in sys.argv[1:] if "=" in text]
    if not groups:
        raise SystemExit(__doc__)
    lines = [row(HEADER), row(["---"] * len(HEADER))]
    for runs in groups:
        records = [[evaluated(run, snr, options) for snr in SNR_DB] for run in runs]
        for measure in records[0][0]:
            title = ",".join(run.name for run in runs)
            lines += told(f"{title}, {measure}", [[record[measure] for record in each] for each in records])
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
    right = {s: list(group_accuracy(found.scores[s], found.targets, found.groups).values()) for s in SUBSETS}
    means: dict[Subset, float] = {s: sum(right[s]) / len(right[s]) for s in SUBSETS}
    return {"tags": means}


def by_captions(record: dict[str, Any]) -> dict[str, dict[Subset, float]]:
    splits = record.get("captions", {}).get("shapley", {})
    return {told: splits[name]["value"] for name, told in CAPTION_METRICS.items() if name in splits}


def told(title: str, values: list[list[dict[Subset, float]]]) -> list[str]:
    """`values`: of each run at each ratio, what it reaches with each subset of modalities."""
    shares = [[shapley(value) for value in run] for run in values]
    figures = {
        "both": [[value["both"] for value in run] for run in values],
        "sound alone": [[value["audio"] for value in run] for run in values],
        "picture alone": [[value["video"] for value in run] for run in values],
        "owed to sound": [[split.audio for split in run] for run in shares],
        "owed to the picture": [[split.video for split in run] for run in shares],
        "the picture's share": [[split.video / (split.video + split.audio) for split in run] for run in shares],
    }
    return [
        row([f"{title}: {name}", *(cell(list(at), bold=name == "both") for at in zip(*runs, strict=True))])
        for name, runs in figures.items()
    ]


def cell(found: list[float], bold: bool) -> str:
    """The mean over runs, with the deviation between them where there are several."""
    mean = f"{statistics.mean(found):.3f}"
    spread = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
    return (f"**{mean}**" if bold else mean) + spread


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(option: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in option)


if __name__ == "__main__":
    main()
