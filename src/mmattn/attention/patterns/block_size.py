"""The size of a window's blocks: measured on the device and chosen on the CPU, which reads a few numbers once.

Shape legend as in windows.py; S segments of the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

BLOCK_SIZES = (4, 8, 16, 32, 64, 128, 256, 512)  # queries of a block, each twice the last: the cheapest is taken
CALL_COST = 24  # what a row or a column of a block costs beside its pairs, in pairs
MANY = 512  # queries, of which the smallest blocks cost more to weigh up than they could save
WORTH = 0.8  # of the cost, which taking the widest blocks apart has to fall below


class Span(Protocol):
    """Of one segment: each query's range of its sorted keys; `start` beyond `end` where it reads none."""

    @property
    def start(self) -> Int[Tensor, "B Lq"]:
        """The first sorted key that each query reads."""
        ...

    @property
    def end(self) -> Int[Tensor, "B Lq"]:
        """The last sorted key that each query reads."""
        ...


@dataclass(frozen=True)
class Choice:
    """`size` queries a block, `few` of a clip's blocks apart from the others: the first in `order`."""

    size: int
    few: int
    order: Int[Tensor, "B N"]  # the blocks of a clip, the widest first
    widths: Sequence[int]  # keys of each segment that a block holds
    wide_widths: Sequence[int]  # and one of the few


@dataclass(frozen=True)
class _Candidate:
    """`wide[c, s]`, `narrow[c, s]`: the widest range of segment s in the first `cuts[c]` blocks, and in the others."""

    size: int
    order: Int[Tensor, "B N"]
    cuts: tuple[int, ...]
    wide: Int[Tensor, "C S"]
    narrow: Int[Tensor, "C S"]


@dataclass(frozen=True)
class Candidates:
    """Block sizes to choose from, and the numbers that decide between them."""

    found: tuple[_Candidate, ...]

    @property
    def count(self) -> int:
        """How many figures `figures` has."""
        return sum(2 * one.wide.numel() for one in self.found)

    def figures(self) -> Int[Tensor, " count"]:
        """The figures of all candidates in one tensor, for one transfer to the host."""
        return torch.cat([part.flatten() for one in self.found for part in (one.wide, one.narrow)])

    def cheapest(self, figures: Sequence[int]) -> Choice:
        """The cheapest choice by the numbers of `figures`."""
        best: tuple[float, Choice] | None = None
        for one in self.found:
            cuts, segments = one.wide.shape
            wide, narrow = ([list(figures[c * segments : (c + 1) * segments]) for c in rows]
                            for rows in (range(cuts), range(cuts, 2 * cuts)))  # fmt: skip
            figures = figures[2 * cuts * segments :]
            blocks, whole = one.order.shape[1], 0.0
            for cut, apart, others in zip(one.cuts, wide, narrow, strict=True):
                cost = _cost(blocks - cut, one.size, sum(others)) + (_cost(cut, one.size, sum(apart)) if cut else 0.0)
                whole = whole or cost  # the first cut is 0
                if best is None or (cost < best[0] and (not cut or cost < WORTH * whole)):
                    best = cost, Choice(one.size, cut, one.order, others, apart)
        assert best is not None
        return best[1]


def candidates(segments: Sequence[Span], lq: int) -> Candidates:
    """Every size that suits `lq` queries, with the contents of its blocks."""
    least = 16 if lq >= MANY else 0
    sizes = [size for size in BLOCK_SIZES if least <= size < 2 * lq] or [lq]
    start = torch.stack([span.start for span in segments])  # (S, B, Lq)
    end = torch.stack([span.end for span in segments])
    step, found = sizes[0], []
    for size in sizes:  # each size is made of blocks of the last
        start, end = blocked(start, step, 1 << 30).amin(dim=-1), blocked(end, step, 0).amax(dim=-1)
        step = 2
        width = (end - start).clamp(min=0)  # (S, B, N)
        order = width.sum(dim=0).argsort(dim=1, descending=True)
        widths = width.gather(2, order.expand(len(segments), -1, -1)).amax(dim=1)  # (S, N), over the clips
        n = widths.shape[1]
        cuts = (0, *(n // share for share in (32, 16, 8, 4, 2) if n // share))
        highest = pad(widths.cummax(dim=1).values, (1, 0))[:, list(cuts)]
        rest = widths.flip(1).cummax(dim=1).values.flip(1)[:, list(cuts)]
        found.append(_Candidate(size, order, cuts, highest.mT, rest.mT))
    return Candidates(tuple(found))


def _cost(blocks: int, size: int, width: float) -> float:
    return blocks * (size + CALL_COST) * (width + CALL_COST)


def blocked(x: Int[Tensor, "*B L"], size: int, fill: int) -> Int[Tensor, "*B N Q"]:
    """`x` cut into blocks of `size`, the last filled up with `fill`."""
    return pad(x, (0, -x.shape[-1] % size), value=fill).unflatten(-1, (-1, size))
