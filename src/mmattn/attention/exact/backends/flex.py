"""Windows on CUDA by FlexAttention: tokens are sorted, and nothing else is gathered.

With tokens in the order of their positions, a query's window is a range of each segment's keys, so which tiles are
empty, full or in between follows from the ends of the ranges; the Lq x Lk mask is never made. Attention runs
for each segment apart and is merged by log-sum-exp, so that mass costs nothing. CUDA only: on a CPU it cannot train.

Shape legend as in interface.py; N tiles of queries, M tiles of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.exact.backends.flex_kernel import compiled, key_of, widened
from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.sparse import Sides, Windowed
from mmattn.attention.patterns.windows import Ranges, sort_windows

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

TILE = 128


@dataclass(frozen=True)
class FlexWindows:
    """Windows over sorted tokens: the order of the queries, and the order and mask of each segment's keys."""

    order: Int[Tensor, "B Lq"]
    keys: tuple[Int[Tensor, "B Ls"], ...]
    masks: tuple  # of torch's BlockMask; None for a segment without keys


def plan(pattern: Windowed, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> FlexWindows:
    """The windows of `pattern` as block masks for FlexAttention."""
    sides = pattern.sides(q, k, q_geometry, k_geometry)
    found = sort_windows(*pattern.windows(q, k, q_geometry, k_geometry, sides.q_local, sides.k_local))
    lengths, offset, masks = k_geometry.lengths(k.shape[2]), 0, []
    for ranges, length in zip(found.segments, lengths, strict=True):
        span = slice(offset, offset + length)
        masks.append(_block_mask(found.order, found.reads, ranges, sides, span) if length else None)
        offset += length
    return FlexWindows(found.order, tuple(ranges.key for ranges in found.segments), tuple(masks))


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    windows: FlexWindows,
    scale: float,
    kernel: Callable | None = None,
) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"], Float[Tensor, "B H Lq"]]:
    """Output, mass on each segment and log-sum-exp, all differentiable, as in softmax.attend. `kernel`: for tests."""
    width = v.shape[3]
    with torch.autocast(q.device.type, enabled=False):
        out, mass, lse = _attend(widened(q), widened(k), widened(v), windows, scale, kernel)
    return out[..., :width], mass, lse


def _attend(
    q: Tensor, k: Tensor, v: Tensor, windows: FlexWindows, scale: float, kernel: Callable | None
) -> tuple[Tensor, Tensor, Tensor]:
    from torch.nn.attention.flex_attention import AuxRequest

    kernel = kernel or compiled(key_of(q, k, v))
    lengths = [key.shape[1] for key in windows.keys]
    outs, lses = [], []
    sorted_q = _reordered(q, windows.order)
    for key, mask, *own in zip(
        windows.keys, windows.masks, k.split(lengths, dim=2), v.split(lengths, dim=2), strict=True
    ):
        if mask is None:
            outs.append(q.new_zeros(*q.shape[:3], v.shape[3]))
            lses.append(torch.full(q.shape[:3], -torch.inf, device=q.device))
            continue
        own_k, own_v = (_reordered(x, key) for x in own)
        out, aux = kernel(sorted_q, own_k, own_v, block_mask=mask, scale=scale, return_aux=AuxRequest(lse=True))
        outs.append(out)
        lses.append(aux.lse)
    stacked = torch.stack(lses, dim=-1)
    empty = stacked.isneginf()
    # finite in the merge, because a gradient through -inf is not a number
    out, mass, lse = merge(outs, stacked.masked_fill(empty, -1e30).unbind(dim=-1))
    nothing = empty.all(dim=-1)
    out, mass = out.masked_fill(nothing[..., None], 0.0), mass.masked_fill(nothing[..., None], 0.0)
    lse = lse.masked_fill(nothing, -torch.inf)
    back = windows.order.argsort(dim=1)
    return _reordered(out, back), _reordered(mass, back), _reordered(lse[..., None], back)[..., 0]


def _reordered(x: Float[Tensor, "B H L C"], order: Int[Tensor, "B L"]) -> Float[Tensor, "B H L C"]:
    return x.gather(2, order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def _block_mask(order: Tensor, reads: Tensor, ranges: Ranges, sides: Sides, span: slice) -> BlockMask:
    """The mask of one segment: which of its tiles hold some pairs, which hold all, and a pair's own predicate."""
    from torch.nn.attention.flex_attention import BlockMask

    (b, lq), length = order.shape, ranges.key.shape[1]
    start, end = ranges.start, ranges.end
    key_global = _picked(sides.k_global, span, ranges.key, b, length)
    key_keep = _picked(sides.k_keep, span, ranges.key, b, length)
    query_global = torch.zeros_like(reads) if sides.q_global is None else sides.q_global.gather(1, order)
    query_real = reads | query_global

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        window = (j >= start[b, i]) & (j < end[b, i])
        return window | (key_global[b, j] & query_real[b, i]) | (query_global[b, i] & key_keep[b, j])

    low = torch.arange(0, length, TILE, device=order.device)
    high = low + TILE
    first, last = _tiles(start, length).amin(dim=2), _tiles(end, 0).amax(dim=2)  # (B, N)
    some = (first[..., None] < high) & (last[..., None] > low)
    some |= _tiles(query_real, False).any(dim=2)[..., None] & _tiles(key_global, False).any(dim=2)[:, None]
    some |= _tiles(query_global, False).any(dim=2)[..., None] & _tiles(key_keep, False).any(dim=2)[:, None]
    latest, earliest = _tiles(start, length).amax(dim=2), _tiles(end, 0).amin(dim=2)
    full = (latest[..., None] <= low) & (earliest[..., None] >= high)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~full), *_listed(full), BLOCK_SIZE=TILE, mask_mod=mask_mod, seq_lengths=(lq, length)
    )


def _picked(flags: Tensor | None, span: slice, key: Tensor, b: int, length: int) -> Bool[Tensor, "B Ls"]:
    if flags is None:
        return torch.zeros(b, length, dtype=torch.bool, device=key.device)
    return flags[:, span].gather(1, key)


def _tiles(x: Tensor, fill: int | bool) -> Tensor:
    return pad(x, (0, -x.shape[1] % TILE), value=fill).unflatten(1, (-1, TILE))


def _listed(tiles: Bool[Tensor, "B N M"]) -> tuple[Int[Tensor, "B 1 N"], Int[Tensor, "B 1 N M"]]:
    number = tiles.sum(dim=2, dtype=torch.int32)
    index = (~tiles).to(torch.uint8).argsort(dim=2, stable=True).to(torch.int32)
    return number[:, None], index[:, None]
