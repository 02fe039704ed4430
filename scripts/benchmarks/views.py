"""What several views of a span, and spans that slide, cost: process CPU time of tagging one file, decoding included.

    python scripts/benchmarks/views.py [--rounds 9] [--seconds 12] [--side 240]

The untrained default model (tiny encoders, cross fusion, clips of 3 s) on one thread, decoding in this process; ways
interleaved, medians, and each over the first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmattn.checkpoint import Checkpoint
from mmattn.config.compose import build, compose
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.views import Views
from mmattn.inference.predictor.pipeline import Predictor
from mmattn.media.write.video import write_video
from mmattn.model import build_model

FPS, RATE = 25, 16000


def film(path: Path, seconds: float, side: int) -> None:
    """Moving noise, which costs a decoder more than a still would; noise for sound."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (round(seconds * FPS), side // 20, side // 10, 3), dtype=np.uint8)
    sound = 0.1 * rng.standard_normal(round(seconds * RATE)).astype(np.float32)
    write_video(path, coarse.repeat(20, axis=1).repeat(20, axis=2), FPS, sound)


def ways(checkpoint: Checkpoint) -> dict[str, Predictor]:
    settings = {
        "spans": {},
        "spans x flip": {"views": Views(flip=True)},
        "spans x 3 crops": {"views": Views(crops=3)},
        "spans x 3 crops x flip": {"views": Views(crops=3, flip=True)},
        "sliding by 3 s": {"span_step_s": 3.0},
        "sliding by 1 s": {"span_step_s": 1.0},
        "sliding by 0.5 s": {"span_step_s": 0.5},
        "shots": {"shots": True},
    }
    return {name: Predictor(checkpoint, **how) for name, how in settings.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--side", type=int, default=240)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = compose("train", ["data=folder", "data.root=."])
    vocabulary = TagVocabulary(tuple(f"tag{i}" for i in range(50)))
    clip = replace(build(config["data"]["clip"]), fit="crop")
    predictors = ways(Checkpoint(build_model(config, vocabulary).eval(), config, vocabulary, clip, {}))
    times: dict[str, list[float]] = {name: [] for name in predictors}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        film(path, asked.seconds, asked.side)
        for _ in range(asked.rounds + 1):  # the first warms up
            for name, predictor in predictors.items():
                before = time.process_time()
                assert predictor(path).ok
                times[name].append(time.process_time() - before)
    first = statistics.median(times["spans"][1:])
    print(f"a file of {asked.seconds:g} s, {2 * asked.side} x {asked.side} pixels, {asked.rounds} rounds")
    for name, values in times.items():
        median = statistics.median(values[1:])
        print(f"{name:26} {median:6.2f} s  {median / first:5.2f} x")


if __name__ == "__main__":
    main()
