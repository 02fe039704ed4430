"""docs/attention.svg: which pairs the sparse patterns read. `python scripts/attention_picture.py [OUT]`

Rows are the queries: sound at 10 tokens a second, for 3 s, and two latents. Columns are the keys: pictures at 4 a
second, the same sound, the same latents.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import torch

from mmattn.attention.interface import Geometry
from mmattn.config.compose import build, compose

PANELS = {
    "time_window": ["pattern.past_s=0.5", "pattern.future_s=0.25"],
    "sliding": ["pattern.past=2", "pattern.future=2"],
    "dilated": ["pattern.past=2", "pattern.future=2", "pattern.dilation=3"],
    "strided": ["pattern.stride=4"],
    "bigbird": ["pattern.block=3", "pattern.random=1", "pattern.global_tokens=0"],
    "topk_blocks": ["pattern.block=3", "pattern.chosen_blocks=3"],
    "lsh": ["pattern.bucket=4", "pattern.rounds=2"],
    "routing": ["pattern.cluster=8"],
}
SEGMENTS = {"video": ("#c8553d", 12, 4.0), "audio": ("#2a6f97", 30, 10.0), "latent": ("#6a994e", 2, 1.0)}
CELL, GAP, TEXT, ACROSS = 5, 26, 16, 4


def pairs(name: str, settings: list[str]) -> torch.Tensor:
    """Which are read by the first head, (Lq, Lk) bool."""
    torch.manual_seed(2)
    sides = []
    for names in (("audio", "latent"), ("video", "audio", "latent")):
        times = torch.cat([(torch.arange(SEGMENTS[n][1]) + 0.5) / SEGMENTS[n][2] for n in names])
        sides.append(Geometry(None, times[None], tuple((n, SEGMENTS[n][1]) for n in names)))
    drift = torch.stack([(sides[1].time[0] * 2 * frequency).sin() for frequency in range(1, 9)], dim=1)
    k = (drift + 0.5 * torch.randn(drift.shape))[None, None]  # content that changes with time, for those who look at it
    q = k[:, :, SEGMENTS["video"][1] :]
    overrides = [f"attention.{text}" for text in settings]
    attention = build(compose("train", [f"attention={name}", *overrides])["attention"])(1, 8)
    return attention(q, k, k, *sides, frozenset({"weights"})).stats["weights"][0, 0] > 0


def panel(name: str, settings: list[str], x: int, y: int) -> list[str]:
    read = pairs(name, settings)
    height, width = read.shape
    shapes = [
        f'<text x="{x}" y="{y - 5}">{name}</text>',
        f'<rect x="{x}" y="{y}" width="{width * CELL}" height="{height * CELL}" fill="#8881"/>',
    ]
    colour = [shade for shade, count, _ in SEGMENTS.values() for _ in range(count)]
    paths = dict.fromkeys(colour, "")
    for i, row in enumerate(read.tolist()):
        at = 0
        for (of, on), run in groupby(zip(colour, row, strict=True)):
            cells = len(list(run))
            if on:
                paths[of] += f"M{x + at * CELL} {y + i * CELL}h{cells * CELL}v{CELL}h-{cells * CELL}z"
            at += cells
    shapes += [f'<path fill="{of}" d="{path}"/>' for of, path in paths.items()]
    return shapes


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/attention.svg")
    columns = sum(count for _, count, _ in SEGMENTS.values())
    wide, high = columns * CELL + GAP, (columns - SEGMENTS["video"][1]) * CELL + GAP + TEXT
    shapes = []
    for i, (name, settings) in enumerate(PANELS.items()):
        shapes += panel(name, settings, i % ACROSS * wide + 4, i // ACROSS * high + TEXT + 4)
    legend_y = -(-len(PANELS) // ACROSS) * high + TEXT
    for i, (name, (shade, _, _)) in enumerate(SEGMENTS.items()):
        shapes.append(f'<rect x="{4 + i * 90}" y="{legend_y - 9}" width="10" height="10" fill="{shade}"/>')
        shapes.append(f'<text x="{18 + i * 90}" y="{legend_y}">{name} keys</text>')
    size = f'viewBox="0 0 {ACROSS * wide} {legend_y + 8}"'
    style = "<style>text{font:12px sans-serif;fill:#888}</style>"
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} width="{ACROSS * wide}">', style, *shapes, "</svg>"]
    out.write_text("\n".join(svg) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
