"""Training time of position=alibi over that of position=rotary, on one CPU thread.

Usage: python scripts/benchmarks/positions.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from padding import medians

from mmattn.attention.interface import Geometry
from mmattn.config.compose import build, read_choice

HEADS, WIDTH = 4, 24
CASES = (
    ("dense", 16, 171, 10.0),
    ("dense", 2, 1000, 10.0),
    ("time_window", 16, 171, 10.0),
    ("time_window", 1, 4000, 160.0),
)


def training(attention: str, position: str, clips: int, length: int, seconds: float) -> Callable[[], None]:
    """A forward and backward pass."""
    place = build(read_choice("position", position))(HEADS, WIDTH)
    mechanism = place.prepare(build(read_choice("attention", attention))(HEADS, WIDTH))
    side = Geometry(None, ((torch.arange(length) + 0.5) * (seconds / length)).expand(clips, -1))
    q, k, v = (torch.randn(clips, length, HEADS, WIDTH).transpose(1, 2).requires_grad_() for _ in range(3))
    return lambda: mechanism(place(q, side), place(k, side), v, side, side).out.sum().backward()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for attention, clips, length, seconds in CASES:
        runs = [training(attention, position, clips, length, seconds) for position in ("rotary", "alibi")]
        for run in runs:
            run()  # plans are made
        rotary, alibi = medians(runs)
        print(
            f"{attention}, {clips} x {length} tokens: {1e3 * rotary:.1f} ms, {1e3 * alibi:.1f}: {alibi / rotary:.2f}x"
        )
