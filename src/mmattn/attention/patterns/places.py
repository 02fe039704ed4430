"""Places: ranks of the real tokens of a segment, in the order of their times (as given, without times).

If the numbers of queries and keys differ, a query is at the same fraction of each segment of the keys. So padding, its
amount and place, and the order in which tokens are given change nothing.

Shape legend as in interface.py; Ls keys of one segment.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.order import real, time_rank
from mmattn.attention.patterns.windows import KeyWindow
from mmattn.types import widest


class Places:
    """Places of the queries, of each segment's keys (+inf where not local), and of the queries among those."""

    def __init__(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry, k_local: Tensor) -> None:
        self.lengths = k_geometry.lengths(k.shape[2])
        query, of_all = ranks(q, q_geometry)
        self.query: Float[Tensor, "B Lq"] = torch.cat(query, dim=1)
        keys, counts = ranks(k, k_geometry)
        local = k_local.split(self.lengths, dim=1)
        self.keys = [key.masked_fill(~kept, math.inf) for key, kept in zip(keys, local, strict=True)]
        doubled = 2 * self.query + 1
        total = torch.cat([n.expand_as(part) for n, part in zip(of_all, query, strict=True)], dim=1).clamp(min=1)
        # (i + 1/2) / n is the fraction; exactly i again where the numbers are equal
        self.aligned = [(doubled * n / (2 * total) - 0.5).round() for n in counts]

    def only(self, segment: int, window: KeyWindow) -> list[KeyWindow]:
        """This window of one segment, and no keys of the others."""
        nothing = [KeyWindow(window.low, window.high, torch.full_like(key, math.inf)) for key in self.keys]
        return [window if i == segment else none for i, none in enumerate(nothing)]


def ranks(x: Tensor, geometry: Geometry) -> tuple[list[Float[Tensor, "B Ls"]], list[Float[Tensor, "B 1"]]]:
    """The place of each token in its segment, and how many real ones the segment has."""
    lengths = geometry.lengths(x.shape[2])
    keeps = real(geometry, x).split(lengths, dim=1)
    times = [None] * len(lengths) if geometry.time is None else geometry.time.split(lengths, dim=1)
    parts = zip(x.split(lengths, dim=2), keeps, times, strict=True)
    places = [widest(time_rank(Geometry(keep, time), part)) for part, keep, time in parts]
    return places, [widest(keep.sum(dim=1, keepdim=True)) for keep in keeps]
