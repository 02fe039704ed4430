"""Patterns by place: which pairs are read follows from how many tokens stand between them.

A place is a rank: the real tokens of a segment, counted in the order of their times (as given, without times). Where
queries and keys are of other numbers, a query stands at the same fraction of each segment of the keys. So padding, its
amount and place, and the order in which tokens are handed over change nothing.

Shape legend as in interface.py; Ls keys of one segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.order import precise, real, time_rank
from mmattn.attention.patterns.members import group_blocks, listed_members
from mmattn.attention.patterns.time_window import Sparse, Windowed
from mmattn.attention.patterns.windows import Window, window_blocks, window_parts


class SlidingWindow(Windowed):
    """A query at place i reads the keys of the places i - past ... i + future of each segment.

    Places are rounded where segments differ in number. (Beltagy et al. 2020, Longformer, section 3.1; with global
    tokens, its global + local attention.)
    """

    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0:
            raise ValueError(f"past={past}, future={future}: expected numbers of tokens, 0 or more")
        self.past = past
        self.future = future

    def windows(self, q, k, q_geometry, k_geometry, q_local, k_local) -> tuple[Tensor, list[Window]]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        windows = [
            Window(at - self.past, at + self.future, key) for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        return places.query.masked_fill(~q_local, math.inf), windows


class DilatedWindow(Sparse):
    """A sliding window over every `dilation`-th place: those j for which i - j is a multiple of it.

    `past` and `future` count the keys that are read. (Beltagy et al. 2020, Longformer, section 3.1.)
    """

    merges = True
    by_vectors = False
    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        dilation: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0 or dilation < 1:
            raise ValueError(f"past={past}, future={future}, dilation={dilation}: expected 0, 0 and 1 or more")
        self.past = past * dilation
        self.future = future * dilation
        self.dilation = dilation

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        far = float(k.shape[2] + self.past + self.future)  # sorted by residue first, a window holds one residue only
        asked = []
        for segment, (at, key) in enumerate(zip(places.aligned, places.keys, strict=True)):
            at = at + far * (at % self.dilation)
            key = key + far * (key % self.dilation).nan_to_num(0.0)
            windows = places.only(segment, Window(at - self.past, at + self.future, key))
            asked.append((at.masked_fill(~q_local, math.inf), windows))
        return window_parts(asked)

    def beside(self, segments: int) -> list[bool]:
        return [False, True] * segments


class Strided(Sparse):
    """A query at place i reads the `stride` places before and after it, and all those of its residue modulo `stride`.

    (Child et al. 2019, Sparse Transformer, section 4.3, strided; in both directions, both sets under one softmax.)
    """

    merges = True
    by_vectors = False
    reference = "Child et al. 2019"
    time_cost = "Lq (stride + Lk / stride) D"
    memory_cost = "(Lq + Lk) D + Lq (stride + Lk / stride)"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        stride: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if stride < 1:
            raise ValueError(f"stride={stride}: expected 1 or more")
        self.stride = stride

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        near = [
            Window(at - self.stride, at + self.stride, key) for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        parts = window_blocks(places.query.masked_fill(~q_local, math.inf), near)
        offset, every = 0, torch.cat(places.keys, dim=1)
        for at, key in zip(places.aligned, places.keys, strict=True):
            length = key.shape[1]
            column = group_blocks(
                torch.where(q_local, at % self.stride, self.stride).long(),
                *_columns(key, self.stride),
                lk=k.shape[2],
            )
            column = replace(column, key=column.key + offset)
            # What it has read in its window a query does not read again in its column.
            apart = (_of(at, column.query)[..., None] - _of(every, column.key)[:, None]).abs()
            parts.append(replace(column, mask=column.mask & (apart > self.stride)))
            offset += length
        return parts

    def beside(self, segments: int) -> list[bool]:
        return [False, True] + [False] * segments


def _columns(place: Float[Tensor, "B Ls"], stride: int) -> tuple[Tensor, Tensor]:
    """The keys of each residue modulo `stride`, as group_blocks wants them; a key at +inf is of none."""
    local = place.isfinite()
    at = torch.where(local, place, 0.0)
    residue = torch.where(local, at % stride, stride).long()
    return listed_members(residue, at.long() // stride, stride, -(-place.shape[1] // stride))


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

    def only(self, segment: int, window: Window) -> list[Window]:
        """This window of a segment, and nothing of the others."""
        nothing = [Window(window.low, window.high, torch.full_like(key, math.inf)) for key in self.keys]
        return [window if i == segment else none for i, none in enumerate(nothing)]


def ranks(x: Tensor, geometry: Geometry) -> tuple[list[Float[Tensor, "B Ls"]], list[Float[Tensor, "B 1"]]]:
    """The place of each token in its segment, and how many real ones the segment has."""
    lengths = geometry.lengths(x.shape[2])
    keeps = real(geometry, x).split(lengths, dim=1)
    times = [None] * len(lengths) if geometry.time is None else geometry.time.split(lengths, dim=1)
    parts = zip(x.split(lengths, dim=2), keeps, times, strict=True)
    places = [precise(time_rank(Geometry(keep, time), part)) for part, keep, time in parts]
    return places, [precise(keep.sum(dim=1, keepdim=True)) for keep in keeps]


def _of(values: Float[Tensor, "B L"], rows: Tensor) -> Tensor:
    return values.flatten()[rows.clamp(max=values.numel() - 1)]
