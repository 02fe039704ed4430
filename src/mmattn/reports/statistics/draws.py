"""The clips of an evaluation resampled with replacement (Efron 1979), all clips of a video together.

Clips cut from one video are alike, so resampling them one by one would make a score look more certain than it is. If
a few videos have most of the clips, there is little more to learn than from these few: `effective` says how many videos
with equally many clips would be worth as much (Kish 1965); at least 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmattn.metrics.bootstrap import resamples


@dataclass(frozen=True)
class Draws:
    """`counts`: how often each draw contains each clip; the first row has each clip once."""

    counts: UInt8[Tensor, "R N"]
    videos: int
    effective: float

    @property
    def number(self) -> int:
        """How many draws there are, without the first row."""
        return len(self.counts) - 1

    def first(self, number: int) -> Draws:
        """The first `number` of these draws."""
        return replace(self, counts=self.counts[: number + 1])


def draw(videos: Sequence[str], number: int) -> Draws:
    """`videos`: for each clip the video that it comes from. The same videos give the same draws."""
    place = {name: i for i, name in enumerate(dict.fromkeys(videos))}
    of_clip = torch.tensor([place[name] for name in videos], dtype=torch.long)
    counts = torch.cat([torch.ones(1, len(place), dtype=torch.uint8), resamples(len(place), number)])
    sizes = torch.bincount(of_clip).double()
    effective = float(sizes.sum() ** 2 / sizes.square().sum()) if len(place) else 0.0
    return Draws(counts[:, of_clip], len(place), max(effective, min(len(place), 2)))
