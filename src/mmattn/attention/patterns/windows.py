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

from mmattn.attention.interface import Blocks
from mmattn.attention.patterns.block_size import Choice, candidates
from mmattn.attention.patterns.block_size import blocked as _blocked


@dataclass(frozen=True)
class KeyWindow:
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


def sort_windows(position: Float[Tensor, "B Lq"], windows: Sequence[KeyWindow]) -> Sorted:
    """Queries and keys in the order of their positions, and the range of keys that each query reads."""
    order = position.argsort(dim=1, stable=True)
    reads = position.isfinite().gather(1, order)
    return Sorted(order, reads, tuple(_ranges(window, order, reads) for window in windows))


def _ranges(window: KeyWindow, order: Tensor, reads: Tensor) -> Ranges:
    position, key = window.position.sort(dim=1, stable=True)
    count = position.isfinite().sum(dim=1, keepdim=True)
    start = torch.searchsorted(position, window.low.gather(1, order))
    end = torch.searchsorted(position, window.high.gather(1, order), right=True).minimum(count)
    reads_any = reads & (start < end)
    return Ranges(key, torch.where(reads_any, start, position.shape[1]).int(), torch.where(reads_any, end, 0).int())


def window_blocks(position: Float[Tensor, "B Lq"], windows: Sequence[KeyWindow]) -> list[Blocks]:
    """Blocks of queries that are neighbours in `position`; a query at +inf reads nothing."""
    return window_parts([(position, windows)])


def window_parts(requests: Sequence[tuple[Float[Tensor, "B Lq"], Sequence[KeyWindow]]]) -> list[Blocks]:
    """Two parts for each: blocks of queries that neighbour in their position, and, beside them, the few widest ones.

    All blocks of a part are as wide as its widest, so where a few are much wider than the others they stand apart; the
    second part may hold none. Costs a sort, a mask of one byte a pair of the blocks, and one read of their widths, for
    all requests together: how large a plan is depends on the tokens' times, so that the processor has to know.
    """
    found = [sort_windows(*request) for request in requests]
    shapes = [candidates(request.segments, request.order.shape[1]) for request in found]
    figures = torch.cat([shape.figures() for shape in shapes]).tolist()
    parts = []
    for request, shape in zip(found, shapes, strict=True):
        own, figures = figures[: shape.count], figures[shape.count :]
        parts += _blocks(request, shape.cheapest(own))
    return parts


def _blocks(found: Sorted, choice: Choice) -> list[Blocks]:
    b, lq = found.order.shape
    clip = torch.arange(b, device=found.order.device)[:, None]
    query = _blocked(torch.where(found.reads, found.order + lq * clip, b * lq), choice.size, b * lq)  # (B, N, Q)
    spans = []
    for ranges in found.segments:
        start, end = _blocked(ranges.start, choice.size, ranges.key.shape[1]), _blocked(ranges.end, choice.size, 0)
        spans.append(_Spans(ranges.key, start, end))
    if not choice.few:
        nothing = query.new_empty(0, choice.size), query.new_empty(0, 0), found.reads.new_empty(0, choice.size, 0)
        return [_part(query, spans, choice.widths), Blocks(*nothing, beside=True)]
    wide, narrow = choice.order.split([choice.few, choice.order.shape[1] - choice.few], dim=1)
    first, second = (
        _part(_picked(query, which), [span.picked(which) for span in spans], widths)
        for which, widths in ((narrow, choice.widths), (wide, choice.wide_widths))
    )
    return [first, replace(second, beside=True)]


@dataclass(frozen=True)
class _Spans:
    """Of one segment: its sorted keys, and each query's range of them, in blocks."""

    key: Int[Tensor, "B Ls"]
    start: Int[Tensor, "B N Q"]
    end: Int[Tensor, "B N Q"]

    @property
    def first(self) -> Int[Tensor, "B N"]:
        return self.start.amin(dim=2)

    def picked(self, blocks: Int[Tensor, "B M"]) -> _Spans:
        return _Spans(self.key, _picked(self.start, blocks), _picked(self.end, blocks))


def _picked(x: Int[Tensor, "B N Q"], blocks: Int[Tensor, "B M"]) -> Int[Tensor, "B M Q"]:
    return x.gather(1, blocks[..., None].expand(-1, -1, x.shape[2]))


def _part(query: Int[Tensor, "B N Q"], spans: Sequence[_Spans], widths: Sequence[int]) -> Blocks:
    (b, n, _), columns, masks, offset = query.shape, [], [], 0
    for span, width in zip(spans, widths, strict=True):
        at = span.first[..., None] + torch.arange(width, device=query.device, dtype=torch.int32)  # (B, N, R)
        masks.append(_between(span.start - span.first[..., None], span.end - span.first[..., None], width))
        place = at.long().clamp(max=max(0, span.key.shape[1] - 1)).flatten(1)
        columns.append(span.key.gather(1, place).view(b, n, width) + offset)
        offset += span.key.shape[1]
    clip = torch.arange(b, device=query.device)[:, None, None]
    key, mask = torch.cat(columns, dim=2) + offset * clip, torch.cat(masks, dim=3)
    return Blocks(query.flatten(0, 1), key.flatten(0, 1), mask.flatten(0, 1))


def _between(start: Int[Tensor, "B N Q"], end: Int[Tensor, "B N Q"], width: int) -> Bool[Tensor, "B N Q R"]:
    """Which of `width` places lie in [start, end).

    Rows of a triangle are copied many times as fast as numbers are compared; it has to be small beside the mask.
    """
    if 4 * width > start.numel():
        at = torch.arange(width, device=start.device, dtype=start.dtype)
        return (at >= start[..., None]) & (at < end[..., None])
    below = torch.ones(width + 1, width, dtype=torch.uint8, device=start.device).tril(-1)
    start, end = start.clamp(0, width), end.clamp(0, width)
    rows = (below.index_select(0, at.flatten()).view(*at.shape, width) for at in (start, torch.maximum(start, end)))
    return torch.bitwise_xor(*rows).view(torch.bool)


def also_reading(blocks: Blocks, keys: Bool[Tensor, "B Lk"], most: int, lq: int) -> Blocks:
    """The same blocks, every query of which reads these keys too (which must not be in them yet); `most` of a clip."""
    b, lk = keys.shape
    column, real = listed(keys, most)
    key = (column + lk * torch.arange(b, device=keys.device)[:, None]).repeat_interleave(len(blocks.key) // b, dim=0)
    real = real.repeat_interleave(len(blocks.key) // b, dim=0)
    mask = (blocks.query < b * lq)[..., None] & real[:, None]
    return replace(blocks, key=torch.cat([blocks.key, key], dim=1), mask=torch.cat([blocks.mask, mask], dim=2))


def reading_all(queries: Bool[Tensor, "B Lq"], most: int, keep: Bool[Tensor, "B Lk"]) -> Blocks:
    """One block for each clip, in which these queries read every kept key."""
    (b, lq), lk = queries.shape, keep.shape[1]
    clip = torch.arange(b, device=keep.device)[:, None]
    query, real = listed(queries, most)
    key = torch.arange(lk, device=keep.device) + lk * clip
    return Blocks(torch.where(real, query + lq * clip, b * lq), key, real[..., None] & keep[:, None])


def listed(flags: Bool[Tensor, "B L"], most: int) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
    """The places of True in each row, in order, and which entries of that list are real. No row has over `most`."""
    places = (~flags).view(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return places, flags.gather(1, places)
