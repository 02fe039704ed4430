"""Windows: each query reads the keys whose position lies in an interval of its own.

Positions are anything that sorts: seconds, ranks, residues, buckets. Queries and the keys of each segment are sorted by
it; a block of neighbouring queries then reads one contiguous range of a segment's sorted keys, found by binary search.
Streams of other rates, starts or padding differ only in where the ranges lie.

Shape legend as in interface.py; B may count the heads of clips too; Ls keys of one segment, N blocks of a clip, R the
widest range of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.interface import Blocks
from mmattn.attention.order import precise

BLOCK_SIZES = (4, 8, 16, 32, 64, 128, 256, 512)  # queries of a block, each twice the last: the cheapest is taken
CALL_COST = 24  # what a row or a column of a block costs beside its pairs, in pairs


@dataclass(frozen=True)
class Window:
    """Of one segment of the keys: query i reads key j where low[i] <= position[j] <= high[i].

    A key at +inf is not read. In the order of the queries' positions, low and high have to rise.
    """

    low: Float[Tensor, "B Lq"]
    high: Float[Tensor, "B Lq"]
    position: Float[Tensor, "B Ls"]


@dataclass(frozen=True)
class Ranges:
    """Of one segment: its keys in the order of their positions, and each query's range of them, [start, end)."""

    key: Int[Tensor, "B Ls"]
    start: Int[Tensor, "B Lq"]
    end: Int[Tensor, "B Lq"]


@dataclass(frozen=True)
class Sorted:
    """Queries in the order of their positions, `reads` those that are not at +inf, and what they read."""

    order: Int[Tensor, "B Lq"]
    reads: Bool[Tensor, "B Lq"]
    segments: tuple[Ranges, ...]


def sort_windows(position: Float[Tensor, "B Lq"], windows: Sequence[Window]) -> Sorted:
    order = position.argsort(dim=1, stable=True)
    reads = position.isfinite().gather(1, order)
    return Sorted(order, reads, tuple(_ranges(window, order, reads) for window in windows))


def _ranges(window: Window, order: Tensor, reads: Tensor) -> Ranges:
    position, key = window.position.sort(dim=1, stable=True)
    count = position.isfinite().sum(dim=1, keepdim=True)
    start = torch.searchsorted(position, window.low.gather(1, order))
    end = torch.searchsorted(position, window.high.gather(1, order), right=True).minimum(count)
    some = reads & (start < end)
    return Ranges(key, torch.where(some, start, position.shape[1]).int(), torch.where(some, end, 0).int())


def window_blocks(position: Float[Tensor, "B Lq"], windows: Sequence[Window]) -> list[Blocks]:
    """Blocks of queries that neighbour in `position`; a query at +inf reads nothing.

    All blocks of a part are as wide as the widest, so where a few are much wider than the others they make a second
    part, beside the first. Costs a sort, and a mask of one byte a pair of the blocks.
    """
    b, lq = position.shape
    found = sort_windows(position, windows)
    size = _cheapest(found.segments, lq)
    clip = torch.arange(b, device=position.device)[:, None]
    query = _blocked(torch.where(found.reads, found.order + lq * clip, b * lq), size, b * lq)  # (B, N, Q)
    spans = []
    for ranges in found.segments:
        start, end = _blocked(ranges.start, size, ranges.key.shape[1]), _blocked(ranges.end, size, 0)
        spans.append(_Spans(ranges.key, start, end))
    width = torch.stack([span.width for span in spans]).sum(dim=0)  # (B, N)
    order = width.argsort(dim=1, descending=True)
    few = _few_wide(width.gather(1, order).amax(dim=0).tolist(), size)
    if few == 0:
        return [_part(query, spans)]
    wide, narrow = order.split([few, order.shape[1] - few], dim=1)
    parts = [_part(_picked(query, which), [span.picked(which) for span in spans]) for which in (narrow, wide)]
    return [parts[0], replace(parts[1], beside=True)]


@dataclass(frozen=True)
class _Spans:
    """Of one segment: its sorted keys, and each query's range of them, in blocks."""

    key: Int[Tensor, "B Ls"]
    start: Int[Tensor, "B N Q"]
    end: Int[Tensor, "B N Q"]

    @property
    def first(self) -> Int[Tensor, "B N"]:
        return self.start.amin(dim=2)

    @property
    def width(self) -> Int[Tensor, "B N"]:
        return (self.end.amax(dim=2) - self.first).clamp(min=0)

    def picked(self, blocks: Int[Tensor, "B M"]) -> _Spans:
        return _Spans(self.key, _picked(self.start, blocks), _picked(self.end, blocks))


def _picked(x: Int[Tensor, "B N Q"], blocks: Int[Tensor, "B M"]) -> Int[Tensor, "B M Q"]:
    return x.gather(1, blocks[..., None].expand(-1, -1, x.shape[2]))


def _part(query: Int[Tensor, "B N Q"], spans: Sequence[_Spans]) -> Blocks:
    (b, n, _), columns, masks, offset = query.shape, [], [], 0
    for span, width in zip(spans, torch.stack([span.width.amax() for span in spans]).tolist(), strict=True):
        at = span.first[..., None] + torch.arange(width, device=query.device, dtype=torch.int32)  # (B, N, R)
        masks.append((at[:, :, None] >= span.start[..., None]) & (at[:, :, None] < span.end[..., None]))
        place = at.long().clamp(max=max(0, span.key.shape[1] - 1)).flatten(1)
        columns.append(span.key.gather(1, place).view(b, n, width) + offset)
        offset += span.key.shape[1]
    clip = torch.arange(b, device=query.device)[:, None, None]
    key, mask = torch.cat(columns, dim=2) + offset * clip, torch.cat(masks, dim=3)
    return Blocks(query.flatten(0, 1), key.flatten(0, 1), mask.flatten(0, 1))


def also_reading(blocks: Blocks, keys: Bool[Tensor, "B Lk"], lq: int) -> Blocks:
    """The same blocks, every query of which reads these keys too (which must not be in them yet)."""
    b, lk = keys.shape
    column, real = listed(keys)
    key = (column + lk * torch.arange(b, device=keys.device)[:, None]).repeat_interleave(len(blocks.key) // b, dim=0)
    real = real.repeat_interleave(len(blocks.key) // b, dim=0)
    mask = (blocks.query < b * lq)[..., None] & real[:, None]
    return replace(blocks, key=torch.cat([blocks.key, key], dim=1), mask=torch.cat([blocks.mask, mask], dim=2))


def reading_all(queries: Bool[Tensor, "B Lq"], keep: Bool[Tensor, "B Lk"]) -> Blocks:
    """One block a clip: these queries read every kept key."""
    (b, lq), lk = queries.shape, keep.shape[1]
    clip = torch.arange(b, device=keep.device)[:, None]
    query, real = listed(queries)
    key = torch.arange(lk, device=keep.device) + lk * clip
    return Blocks(torch.where(real, query + lq * clip, b * lq), key, real[..., None] & keep[:, None])


def listed(flags: Bool[Tensor, "B L"]) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
    """The places of True in each row, in order, and which entries of that list are real."""
    most = int(flags.sum(dim=1).amax()) if flags.numel() else 0
    places = (~flags).view(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return places, flags.gather(1, places)


def _cheapest(segments: Sequence[Ranges], lq: int) -> int:
    """The block size whose blocks would hold the least, each being as wide as it is."""
    sizes = [size for size in BLOCK_SIZES if size < 2 * lq] or [lq]
    start = torch.stack([ranges.start for ranges in segments])  # (S, B, Lq)
    end = torch.stack([ranges.end for ranges in segments])
    step, widths = sizes[0], []
    for _ in sizes:  # each size is made of blocks of the last
        start, end = _blocked(start, step, 1 << 30).amin(dim=-1), _blocked(end, step, 0).amax(dim=-1)
        widths.append(precise((end - start).clamp(min=0).sum(dim=(0, 1))).mean())
        step = 2
    found = torch.stack(widths).tolist()
    costs = [_cost(-(-lq // size), size, width) for size, width in zip(sizes, found, strict=True)]
    return sizes[costs.index(min(costs))]


def _cost(blocks: int, size: int, width: float) -> float:
    return blocks * (size + CALL_COST) * (width + CALL_COST)


def _few_wide(widths: Sequence[int], size: int) -> int:
    """How many of the blocks (their widths, falling) to take apart; 0 where that would save less than a fifth."""
    n = len(widths)
    cuts = [0, *(n // share for share in (32, 16, 8, 4, 2) if n // share)]
    costs = [(_cost(cut, size, widths[0]) if cut else 0.0) + _cost(n - cut, size, widths[cut]) for cut in cuts]
    best = costs.index(min(costs))
    return cuts[best] if costs[best] < 0.8 * costs[0] else 0


def _blocked(x: Int[Tensor, "*B L"], size: int, fill: int) -> Int[Tensor, "*B N Q"]:
    return pad(x, (0, -x.shape[-1] % size), value=fill).unflatten(-1, (-1, size))
