"""Attention with its scores in memory: normalisers other than softmax, in chunks, and the matrix of weights on request.

Shape legend as in interface.py; F features of a key (its segment as one-hot, its time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmattn.attention.exact.backends import gather, timed
from mmattn.attention.exact.backends.passes import indicators
from mmattn.attention.interface import AttentionOutput, Blocks, Geometry
from mmattn.attention.statistics import check_cap, key_times

CHUNK_ELEMENTS = 1 << 22  # scores held at once: 16 MiB in float32
Weigh = Callable[[Tensor, Tensor], Tensor]  # scores and mask to weights, as a Normaliser


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """As a Normaliser: 0 in a row without a key."""
    return torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1) * mask


def matrix(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    keep: Bool[Tensor, "B Lk"] | None,
    parts: Sequence[Blocks] | None,
    scale: float,
    weigh: Weigh,
    with_time: bool = False,
) -> Float[Tensor, "B H Lq Lk"]:
    """The weights as a matrix. `with_time` as in softmax.attend. Raises ValueError above the cap."""
    check_cap(q, k)
    if parts is None:
        mask = q.new_ones(1, 1, 1, k.shape[2], dtype=torch.bool) if keep is None else keep[:, None, None, :]
    else:
        mask = pairs(parts, q, k)
    return weigh(_scores(_scaled(q, scale, with_time), k, with_time), mask)


def _scaled(q: Float[Tensor, "*B Q E"], scale: float, with_time: bool) -> Float[Tensor, "*B Q E"]:
    """In float32 or wider, as the fused kernels have scores: in float16 a product above 65504 is infinite."""
    q = q.to(torch.promote_types(q.dtype, torch.float32))
    return timed.scaled(q, scale) if with_time else q * scale


def _scores(q: Float[Tensor, "*B Q E"], k: Float[Tensor, "*B W E"], with_time: bool) -> Float[Tensor, "*B Q W"]:
    with torch.autocast(q.device.type, enabled=False):
        if not with_time:
            return q @ k.to(q.dtype).mT
        q, k, bias = timed.split(q, k.to(q.dtype))
        return q @ k.mT + bias


def pairs(parts: Sequence[Blocks], q: Tensor, k: Tensor) -> Bool[Tensor, "B #H Lq Lk"]:
    """The pairs of the blocks as a matrix."""
    b, h, lq, _ = q.shape
    heads = h if parts and parts[0].per_head else 1
    read = q.new_zeros(b * heads * lq + 1, k.shape[2], dtype=torch.bool)
    for part in parts:
        block, slot, column = part.mask.nonzero(as_tuple=True)
        read[part.query[block, slot], part.key[block, column] % k.shape[2]] = True
    return read[:-1].view(b, heads, lq, k.shape[2])


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_geometry: Geometry,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
    weigh: Weigh,
    stats: frozenset[str],
    with_time: bool = False,
) -> AttentionOutput:
    """weigh(scale q.k) v over all real keys or a pattern's blocks. Above a chunk, the backward makes scores again.

    Mass and mean time are shares of the weights' sum, entropy is that of the weights over their sum: so normalisers
    that do not sum to 1 have them too. `with_time` as in softmax.attend.
    """
    measured = {"weights": matrix(q, k, k_geometry.keep, parts, scale, weigh, with_time)} if "weights" in stats else {}
    facts = _facts(k, k_geometry, segments, stats)
    width, count = v.shape[3], len(segments)
    one = partial(_weighted, weigh, with_time, count, "entropy" in stats)
    q = _scaled(q, scale, with_time)
    found = _dense(one, q, k, v, facts, k_geometry.keep) if parts is None else _blocks(one, q, k, v, facts, parts)
    if "mass" in stats:
        measured["mass"] = found[..., width : width + count]
    if "mean_time" in stats:
        measured["mean_time"] = found[..., width + count]
    if "entropy" in stats:
        measured["entropy"] = found[..., -1]
    return AttentionOutput(found[..., :width].to(v.dtype), measured)


def _weighted(
    weigh: Weigh,
    with_time: bool,
    count: int,
    entropy: bool,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    facts: Tensor,
    mask: Tensor,
) -> Tensor:
    """Output, means of the facts (of which the first `count` are segments) and entropy, side by side."""
    weights = weigh(_scores(q, k, with_time), mask)
    if not facts.shape[-1]:
        return weights.to(v.dtype) @ v
    wide = weights.to(facts.dtype)
    if v.dtype == facts.dtype:  # the weights are read once
        out, sums = (wide @ torch.cat([v, facts], dim=-1)).tensor_split([v.shape[-1]], dim=-1)
    else:
        out, sums = weights.to(v.dtype) @ v, wide @ facts
    total = sums[..., :count].sum(dim=-1, keepdim=True)
    total = torch.where(total == 0, 1.0, total)
    found = [out, sums / total]
    if entropy:
        positive = wide.masked_fill(wide.eq(0), 1.0)  # the slope of w log w at 0 is infinite
        found.append(total.log() - (positive * positive.log()).sum(dim=-1, keepdim=True) / total)
    return torch.cat(found, dim=-1)


def _facts(
    k: Tensor, geometry: Geometry, segments: tuple[int, ...], stats: frozenset[str]
) -> Float[Tensor, "B H Lk F"]:
    """What is summed under the weights: a key's segment and time. Empty without a statistic to compute."""
    wide = torch.promote_types(k.dtype, torch.float32)
    if not stats & {"mass", "mean_time", "entropy"}:
        return k.new_zeros(*k.shape[:3], 0, dtype=wide)
    facts = indicators(k, segments, wide)
    if "mean_time" in stats:
        time = key_times(geometry).to(wide)[:, None, :, None]
        facts = torch.cat([facts, time.expand(-1, k.shape[1], -1, -1)], dim=-1)
    return facts


def _run(one: Callable[..., Tensor], again: bool, *tensors: Tensor) -> Tensor:
    return checkpoint(one, *tensors, use_reentrant=False) if again else one(*tensors)  # type: ignore[return-value]


def _dense(one: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, facts: Tensor, keep: Tensor | None) -> Tensor:
    mask = q.new_ones(1, 1, 1, k.shape[2], dtype=torch.bool) if keep is None else keep[:, None, None, :]
    step = max(1, CHUNK_ELEMENTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    again = torch.is_grad_enabled() and step < q.shape[2]
    return torch.cat([_run(one, again, rows, k, v, facts, mask) for rows in q.split(step, dim=2)], dim=2)


def _blocks(
    one: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, facts: Tensor, parts: Sequence[Blocks]
) -> Tensor:
    per_head = parts[0].per_head
    tables = [gather.to_table(x, per_head=per_head) for x in (q, k, v, facts)]

    def gathered(query: Tensor, key: Tensor, mask: Tensor, *tables: Tensor) -> Tensor:
        found = one(*(_take(table, rows) for table, rows in zip(tables, (query, key, key, key), strict=True)), mask)
        return found.flatten(0, 2)[:, None] if per_head else gather.rows_of(found)

    some = list(_chunks(parts, q.shape[0], q.shape[1]))
    again = torch.is_grad_enabled() and len(some) > len(parts)
    found = torch.cat([_run(gathered, again, *part, *tables) for part in some])
    at = torch.cat([query.flatten() for query, _, _ in some])
    rows = found.new_zeros(len(tables[0]) + 1, *found.shape[1:]).index_copy(0, at, found)
    return gather.from_table(rows[:-1], q, per_head)


def _take(table: Float[Tensor, "R t D"], rows: Int[Tensor, "g h N"]) -> Float[Tensor, "g H N D"]:
    """Rows as blocks of H heads: a table's t heads together, or those of one each (t = 1) side by side (h = H)."""
    picked = table.index_select(0, rows.clamp(max=len(table) - 1).flatten()).unflatten(0, rows.shape)
    return picked[:, :, :, 0] if rows.shape[1] > 1 else picked[:, 0].transpose(1, 2)


def _chunks(parts: Sequence[Blocks], clips: int, heads: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """query, key and mask of some blocks, all heads of a block together: a normaliser may know its head."""
    for part in parts:
        apart = heads if part.per_head else 1
        fields = [
            x.unflatten(0, (clips, apart, -1)).transpose(1, 2).flatten(0, 1) for x in (part.query, part.key, part.mask)
        ]
        step = max(1, CHUNK_ELEMENTS // max(1, heads * part.query.shape[1] * part.key.shape[1]))
        yield from zip(*(x.split(step) for x in fields), strict=True)
