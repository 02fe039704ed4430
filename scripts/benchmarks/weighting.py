"""What the weightings cost: process-CPU time of an evaluation step beside the model's own forward pass, in one run.

    .venv/bin/python scripts/benchmarks/weighting.py [fusion=cross ...]

Arguments are overrides of `mmattn train`. Medians of interleaved rounds, one thread, on generated batches.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable

import torch

from mmattn.config.compose import compose
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.model import AVModel, build_model
from mmattn.types import Batch
from mmattn.weighting.causal import subset_scores
from mmattn.weighting.evaluation import STATS, Evaluation

ROUNDS, CLIPS, SECONDS = 15, 16, 3


def batch_of(spec: dict, tags: int) -> Batch:
    """Random clips of the shape that `spec` (data.clip) gives."""
    frames, rows = int(SECONDS * spec["fps"]), int(SECONDS / spec["hop_s"])
    shape = CLIPS, frames, 3, spec["height"], spec["width"]
    return Batch(
        frames=torch.randint(0, 256, shape, dtype=torch.uint8),
        frame_keep=torch.ones(CLIPS, frames, dtype=torch.bool),
        frame_times=((torch.arange(frames) + 0.5) / spec["fps"]).expand(CLIPS, -1),
        spectrogram=torch.randn(CLIPS, rows, spec["mels"]),
        spectrogram_keep=torch.ones(CLIPS, rows, dtype=torch.bool),
        spectrogram_times=(torch.arange(rows) * spec["hop_s"]).expand(CLIPS, -1),
        ids=tuple(map(str, range(CLIPS))),
        targets={"tags": (torch.rand(CLIPS, tags) < 0.3).float()},
    )


def measure(model: AVModel, batch: Batch, vocabulary: TagVocabulary) -> dict[str, float]:
    """Median CPU seconds of each step. `steps` are run in turns, so that a busy machine slows all alike."""

    def subsets() -> None:
        video, audio = model.encode(batch)
        subset_scores(model, video, audio, model.fuse(video, audio))

    def weighed() -> None:
        model.task(model.fuse(*model.encode(batch), STATS))

    steps: dict[str, Callable] = {
        "forward": lambda: model(batch),
        "with attention statistics": weighed,
        "with four subsets": subsets,
        "all, with permutations": lambda: Evaluation(vocabulary, permutations=True).update(model, batch),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    with torch.no_grad():
        for number in range(ROUNDS + 1):
            for name, step in steps.items():
                started = time.process_time()
                step()
                if number:  # the first round warms up
                    taken[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = TagVocabulary(tuple(f"tag{i}" for i in range(20)))
    print("| fusion | forward, ms | " + " | ".join(["statistics", "four subsets", "all, with permutations"]) + " |")
    print("|---|---|---|---|---|")
    chosen = [text.removeprefix("fusion=") for text in sys.argv[1:] if text.startswith("fusion=")]
    others = [text for text in sys.argv[1:] if not text.startswith("fusion=")]
    for fusion in chosen or ["late", "cross", "bottleneck", "concat"]:
        config = compose("train", ["data=avshapes", f"fusion={fusion}", *others])
        model = build_model(config, vocabulary).eval()
        found = measure(model, batch_of(config["data"]["clip"], len(vocabulary.names)), vocabulary)
        whole = found.pop("forward")
        ratios = " | ".join(f"{value / whole:.2f} x" for value in found.values())
        print(f"| {fusion} | {whole * 1000:.0f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
