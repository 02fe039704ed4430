"""Attention over the blocks of a pattern: gather the tokens of each block, attend, put the results back.

Scores are never stored. Blocks run in chunks, so that the gathered memory is bounded.

Shape legend as in interface.py; a table holds one row of h heads for each token, (R, h, D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.exact.backends import kernels, timed
from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.interface import Blocks

GATHER_ELEMENTS = 1 << 25  # of queries, keys and values copied into blocks at once: 128 MiB in float32


def to_table(*parts: Float[Tensor, "B H L _"], per_head: bool, width: int = 0) -> Float[Tensor, "R h D"]:
    """Channels of all parts side by side, then zeros up to `width`, in a single copy."""
    rows = [x.flatten(0, 2)[:, None] if per_head else x.transpose(1, 2).flatten(0, 1) for x in parts]
    width = max(width, sum(part.shape[3] for part in parts))
    if len(rows) == 1 and width == parts[0].shape[3]:
        return rows[0].contiguous()
    table, at = rows[0].new_empty(*rows[0].shape[:2], width), 0
    for part in rows:
        table[..., at : at + part.shape[2]] = part
        at += part.shape[2]
    table[..., at:] = 0
    return table


def from_table(table: Float[Tensor, "R h D"], like: Float[Tensor, "B H L E"], per_head: bool) -> Tensor:
    """The reverse of `to_table`: (B, H, L, D), for the B, H and L of `like`."""
    b, h, length, _ = like.shape
    if per_head:
        return table.unflatten(0, (b, h, length))[:, :, :, 0]
    return table.unflatten(0, (b, length)).transpose(1, 2)


def take(table: Float[Tensor, "R h D"], rows: Int[Tensor, "G N"]) -> Float[Tensor, "G h N D"]:
    """Rows of a table as blocks; a slot without a row (index R) gets an arbitrary row, which its mask hides."""
    picked = table.index_select(0, rows.clamp(max=len(table) - 1).flatten())
    return picked.unflatten(0, rows.shape).transpose(1, 2)


def rows_of(x: Float[Tensor, "G h N D"]) -> Float[Tensor, "GN h D"]:
    """Blocks as rows of a table."""
    return x.transpose(1, 2).flatten(0, 1)


def chunks(part: Blocks, width: int, heads: int = 0) -> Iterator[Blocks]:
    """The blocks in chunks that gather at most GATHER_ELEMENTS elements; a row has `width` elements.

    `heads`: how many have a number for each pair.
    """
    q, w = part.query.shape[1], part.key.shape[1]
    step = max(1, GATHER_ELEMENTS // max(1, (q + 2 * w) * width + q * w * heads))
    for at in range(0, len(part.query), step):
        some = slice(at, at + step)
        yield replace(part, query=part.query[some], key=part.key[some], mask=part.mask[some])


def forward(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Sequence[Float[Tensor, "B H Lk _"]],
    parts: Sequence[Blocks],
    scale: float,
    with_time: bool = False,
) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq"]]:
    """The output (channels of all of `v`, side by side) and the log-sum-exp of the scores."""
    per_head, channels, dtype = parts[0].per_head, sum(x.shape[3] for x in v), v[0].dtype
    width = kernels.common_width(q, channels)
    queries, keys = (to_table(x, per_head=per_head, width=width) for x in (q, k))
    values = to_table(*v, per_head=per_head, width=width)
    rows, h, _ = queries.shape
    outs: list[Tensor] = []
    lses: list[Tensor] = []
    for part in parts:
        if not (part.beside and outs):
            outs.append(values.new_zeros(rows + 1, h, width))
            lses.append(values.new_full((rows + 1, h), -math.inf, dtype=torch.promote_types(dtype, torch.float32)))
        for some in chunks(part, h * width, h * with_time):
            block_q, block_k, block_v = take(queries, some.query), take(keys, some.key), take(values, some.key)
            mask = some.mask[:, None]
            if with_time:
                block_q, block_k, mask = timed.masked(block_q, block_k, mask)
            block_out, block_lse = kernels.forward(block_q, block_k, block_v, mask, scale)
            at = some.query.flatten()
            outs[-1].index_copy_(0, at, rows_of(block_out))
            lses[-1].index_copy_(0, at, rows_of(block_lse[..., None])[..., 0])
    out, _, lse = merge(outs, lses)
    return (
        from_table(out[:-1, :, :channels].to(dtype), q, per_head),
        from_table(lse[:-1, :, None], q, per_head)[..., 0],
    )


def backward(
    d_out: Sequence[Tensor],
    q: Tensor,
    k: Tensor,
    v: Sequence[Tensor],
    out: Sequence[Tensor],
    lse: Tensor,
    parts: Sequence[Blocks],
    scale: float,
    with_time: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and the first of v. Tokens are gathered again: nothing of the blocks is kept from the forward.

    `d_out`, `out`: channels as those of `v`.
    """
    per_head = parts[0].per_head
    width = kernels.common_width(q, sum(x.shape[3] for x in v))
    sides = ((q,), (k,), v, d_out, out)
    queries, keys, values, d_outs, outs = (to_table(*side, per_head=per_head, width=width) for side in sides)
    lses = to_table(lse[..., None], per_head=per_head)
    d_q, d_k, d_v = (
        table.new_zeros(len(table) + more, *table.shape[1:], dtype=lse.dtype)
        for table, more in ((queries, 1), (keys, 0), (values, 0))
    )
    h = queries.shape[1]
    for some in (chunk for part in parts for chunk in chunks(part, h * width, h * with_time)):
        own_d_out, own_q, own_out, own_lse = (take(x, some.query) for x in (d_outs, queries, outs, lses))
        own_k, own_v, mask = take(keys, some.key), take(values, some.key), some.mask[:, None]
        if with_time:
            own_q, own_k, mask = timed.masked(own_q, own_k, mask)
        found = kernels.backward(own_d_out, own_q, own_k, own_v, own_out, own_lse[..., 0], mask, scale)
        if with_time:
            found = pad(found[0], (1, 0)), pad(found[1], (1, 0)), found[2]
        at, at_keys = some.query.flatten(), some.key.flatten()
        for table, rows, gradient in ((d_q, at, found[0]), (d_k, at_keys, found[1]), (d_v, at_keys, found[2])):
            table.index_add_(0, rows, rows_of(gradient).to(table.dtype))
    return (
        from_table(d_q[:-1, :, : q.shape[3]].to(q.dtype), q, per_head),
        from_table(d_k[..., : k.shape[3]].to(k.dtype), k, per_head),
        from_table(d_v[..., : v[0].shape[3]].to(v[0].dtype), v[0], per_head),
    )
