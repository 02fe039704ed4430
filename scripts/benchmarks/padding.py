"""Dense attention over clips of different lengths on one CPU thread: one by one against all at once with a mask.

Usage: python scripts/benchmarks/padding.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mmattn.attention.exact.backends import ragged, sdpa
from mmattn.attention.interface import Geometry

CLIPS, HEADS, WIDTH, ROUNDS = 16, 4, 24, 7


def medians(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of processor time of each, measured in turn."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for own, run in zip(taken, runs, strict=True):
            start = time.process_time()
            run()
            own.append(time.process_time() - start)
    return [statistics.median(own) for own in taken]


def compare(length: int) -> None:
    q, k, v = (torch.randn(CLIPS, length, HEADS, WIDTH).transpose(1, 2).requires_grad_() for _ in range(3))
    keep = torch.arange(length) < torch.linspace(0.25, 1, CLIPS).mul(length).round()[:, None]
    side, scale = Geometry(keep), WIDTH**-0.5
    of_clips = ragged.places(q, k, side, side)
    assert of_clips is not None
    slope = torch.randn(CLIPS, HEADS, length, WIDTH) * keep[:, None, :, None]

    def train(out: torch.Tensor) -> None:
        out.backward(slope)

    masked, one_by_one = medians(
        [
            lambda: train(sdpa.attend(q, k, v, keep, scale)),
            lambda: train(ragged.attend(q, k, v, of_clips, scale)),
        ]
    )
    print(f"{length} tokens: mask {1e3 * masked:.1f} ms, one by one {1e3 * one_by_one:.1f}: {masked / one_by_one:.2f}x")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for tokens in (200, 1000):
        compare(tokens)
