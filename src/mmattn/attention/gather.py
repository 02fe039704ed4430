"""Attention over the blocks of a pattern: gather the tokens of each block, attend, put the results back.

No block's scores are ever held. Blocks run in chunks, so that what is gathered at once stays bounded.

Shape legend as in interface.py; a table holds one row of h heads for each token, (R, h, D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.attention import merge
from mmattn.attention.interface import Blocks
from mmattn.attention.merge import Piece

GATHER_ELEMENTS = 1 << 25  # of queries, keys and values copied into blocks at once: 128 MiB in float32


def to_table(x: Float[Tensor, "B H L D"], per_head: bool) -> Float[Tensor, "R h D"]:
    return x.flatten(0, 2)[:, None] if per_head else x.transpose(1, 2).flatten(0, 1)


def from_table(table: Float[Tensor, "R h D"], like: Float[Tensor, "B H L E"], per_head: bool) -> Tensor:
    b, h, length, _ = like.shape
    if per_head:
        return table.view(b, h, length, -1)
    return table.view(b, length, h, -1).transpose(1, 2)


def take(table: Float[Tensor, "R h D"], rows: Int[Tensor, "G N"]) -> Float[Tensor, "G h N D"]:
    """Rows of a table as blocks; a slot that holds no row (index R) gets some row, which its mask hides."""
    picked = table.index_select(0, rows.clamp(max=len(table) - 1).flatten())
    return picked.unflatten(0, rows.shape).transpose(1, 2)


def rows_of(x: Float[Tensor, "G h N D"]) -> Float[Tensor, "GN h D"]:
    return x.transpose(1, 2).flatten(0, 1)


def chunks(parts: Sequence[Blocks], width: int) -> Iterator[tuple[bool, Blocks]]:
    """The blocks, at most GATHER_ELEMENTS at a time; and whether these are of the first part."""
    for number, part in enumerate(parts):
        each = (part.query.shape[1] + 2 * part.key.shape[1]) * width
        step = max(1, GATHER_ELEMENTS // max(1, each))
        for at in range(0, len(part.query), step):
            some = slice(at, at + step)
            query, key, mask = part.query[some], part.key[some], part.mask[some]
            yield number == 0, Blocks(query, key, mask, part.widths, part.per_head)


def pieces(part: Blocks, segments: tuple[int, ...]) -> list[Piece]:
    """The columns of each segment: apart where the pattern laid them out so, else all of them under a mask."""
    mask = part.mask[:, None]
    if len(segments) == 1:
        return [Piece(slice(None), mask)]
    if part.widths:
        return merge.cut(part.widths, mask)
    ends = torch.tensor(segments, device=mask.device).cumsum(0)
    segment = torch.searchsorted(ends, part.key % int(sum(segments)), right=True)[:, None, None]
    return [Piece(slice(None), mask & (segment == s)) for s in range(len(segments))]


def forward(
    q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Blocks], segments: tuple[int, ...], scale: float
) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"]]:
    """The output, and the log-sum-exp of each segment."""
    per_head = parts[0].per_head
    queries, keys, values = (to_table(x, per_head) for x in (q, k, v))
    wide = torch.promote_types(q.dtype, torch.float32)
    rows, h = queries.shape[:2]
    out = values.new_zeros(rows + 1, h, v.shape[3], dtype=wide if len(parts) > 1 else None)
    lses = values.new_full((rows + 1, h, len(segments)), -math.inf, dtype=wide)
    for first, part in chunks(parts, h * (q.shape[3] + v.shape[3]) // 2):
        block_out, block_lses = merge.forward(
            take(queries, part.query), take(keys, part.key), take(values, part.key), pieces(part, segments), scale
        )
        at, new, new_lses = part.query.flatten(), rows_of(block_out).to(out.dtype), rows_of(block_lses)
        if not first:  # some of these rows may have read keys in an earlier part
            before, before_lses = out.index_select(0, at), lses.index_select(0, at)
            totals = torch.stack([before_lses.logsumexp(dim=-1), new_lses.logsumexp(dim=-1)], dim=-1)
            new, new_lses = merge.merge([before, new], totals), torch.logaddexp(before_lses, new_lses)
        out.index_copy_(0, at, new)
        lses.index_copy_(0, at, new_lses)
    return from_table(out[:rows].to(v.dtype), q, per_head), from_table(lses[:rows], q, per_head)


def backward(
    d_out: Tensor,
    extra: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    parts: Sequence[Blocks],
    segments: tuple[int, ...],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, as merge.backward."""
    per_head = parts[0].per_head
    queries, keys, values, d_outs, outs, total = (to_table(x, per_head) for x in (q, k, v, d_out, out, lse[..., None]))
    extras = None if extra is None else to_table(extra, per_head)
    d_q, d_k, d_v = (
        table.new_zeros(len(table) + more, *table.shape[1:], dtype=lse.dtype)
        for table, more in ((queries, 1), (keys, 0), (values, 0))
    )
    for _, part in chunks(parts, queries.shape[1] * (q.shape[3] + v.shape[3])):
        at, at_keys = part.query.flatten(), part.key.flatten()
        found = merge.backward(
            take(d_outs, part.query),
            None if extras is None else take(extras, part.query),
            take(queries, part.query),
            take(keys, part.key),
            take(values, part.key),
            take(outs, part.query),
            take(total, part.query)[..., 0],
            pieces(part, segments if extra is not None else segments[:1]),
            scale,
        )
        for table, rows, gradient in ((d_q, at, found[0]), (d_k, at_keys, found[1]), (d_v, at_keys, found[2])):
            table.index_add_(0, rows, rows_of(gradient).to(table.dtype))
    d_q = d_q[: len(queries)]
    return tuple(  # type: ignore[return-value]
        from_table(grad.to(x.dtype), x, per_head) for grad, x in ((d_q, q), (d_k, k), (d_v, v))
    )
