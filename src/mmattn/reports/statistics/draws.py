"""The clips of an evaluation resampled with replacement (Efron 1979), all clips of a video together.

Clips cut from one video are alike, so resampling them one by one would make a score look more certain than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmattn.metrics.bootstrap import resamples


@dataclass(frozen=True)
class Draws:
    """`counts`: how often each draw contains each clip; the first row has each clip once."""

    counts: UInt8[Tensor, "R N"]
    videos: int

    @property
    def number(self) -> int:
        """How many draws there are, without the first row."""
        return len(self.counts) - 1

    def first(self, number: int) -> Draws:
        """The first `number` of these draws."""
        return Draws(self.counts[: number + 1], self.videos)


def draw(videos: Sequence[str], number: int) -> Draws:
    """`videos`: for each clip the video that it comes from. The same videos give the same draws."""
    place = {name: i for i, name in enumerate(dict.fromkeys(videos))}
    of_clip = torch.tensor([place[name] for name in videos], dtype=torch.long)
    counts = torch.cat([torch.ones(1, len(place), dtype=torch.uint8), resamples(len(place), number)])
    return Draws(counts[:, of_clip], len(place))
