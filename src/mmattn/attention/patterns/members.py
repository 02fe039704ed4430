"""Blocks of queries of one group, which read the listed members of that group.

No block crosses groups. For any division of the queries into C groups, N = C + (Lq - C) / Q blocks of Q queries are
enough. So the size of the plan follows from shapes alone, and the CPU never waits for the device.

Shape legend as in interface.py; P rows (clips, or the heads of all clips), C groups, W members of a group.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.attention.interface import Blocks
from mmattn.attention.patterns.block_size import BLOCK_SIZES, CALL_COST


def group_blocks(
    group: Int[Tensor, "P Lq"],
    member: Int[Tensor, "P C W"],
    real: Bool[Tensor, "P C W"],
    lk: int,
    *,
    per_head: bool = False,
) -> Blocks:
    """`group`: of each query; C for none. `member`: keys of a row, from 0; `real`: which entries are keys at all."""
    (p, lq), (_, c, w) = group.shape, member.shape
    size = _size(lq, c)
    n = _blocks(lq, c, size)
    order = group.argsort(dim=1, stable=True)
    ordered = group.gather(1, order)
    counts = torch.zeros(p, c + 1, dtype=torch.long, device=group.device)
    counts.scatter_add_(1, group, torch.ones_like(group))
    of_group = -(-counts[:, :c] // size)  # blocks of each group
    ends = of_group.cumsum(dim=1)
    first = torch.nn.functional.pad(ends - of_group, (0, 1), value=n)  # queries of no group go beyond the last block
    within = torch.arange(lq, device=group.device) - (counts.cumsum(dim=1) - counts).gather(1, ordered)
    slot = (first.gather(1, ordered) * size + within).clamp(max=n * size)
    row = torch.arange(p, device=group.device)[:, None]
    query = torch.full((p, n * size + 1), p * lq, dtype=torch.long, device=group.device)
    query = query.scatter_(1, slot, order + lq * row)[:, :-1].unflatten(1, (n, size))
    which = torch.searchsorted(ends, torch.arange(n, device=group.device).expand(p, -1).contiguous(), right=True)
    some = which < c  # blocks that hold a query
    which = which.clamp(max=c - 1)[..., None].expand(-1, -1, w)
    key = member.gather(1, which) + lk * row[..., None]
    readable = real.gather(1, which) & some[..., None]
    query = torch.where(torch.arange(n, device=group.device)[:, None] < ends[:, -1:, None], query, p * lq)
    mask = (query < p * lq)[..., None] & readable[:, :, None]
    return Blocks(query.flatten(0, 1), key.flatten(0, 1), mask.flatten(0, 1), per_head)


def listed_members(
    group: Int[Tensor, "P L"], rank: Int[Tensor, "P L"], groups: int, most: int
) -> tuple[Int[Tensor, "P C W"], Bool[Tensor, "P C W"]]:
    """The members of each group by their rank in it, `most` at most; group C: none. Both ranks and groups count from 0.

    Returns each entry's token, and which entries hold one.
    """
    p, length = group.shape
    end = groups * most
    slot = torch.where((group < groups) & (rank < most), group * most + rank, end)
    token = torch.arange(length, device=group.device).expand(p, -1)
    member = torch.zeros(p, end + 1, dtype=torch.long, device=group.device).scatter_(1, slot, token)
    real = torch.zeros(p, end + 1, dtype=torch.bool, device=group.device).scatter_(1, slot, True)
    return member[:, :-1].unflatten(1, (groups, most)), real[:, :-1].unflatten(1, (groups, most))


def _size(lq: int, groups: int) -> int:
    """Queries of a block: as many as cost the least where groups hold alike."""
    return min(BLOCK_SIZES, key=lambda size: _blocks(lq, groups, size) * (size + CALL_COST))


def _blocks(lq: int, groups: int, size: int) -> int:
    return min(lq, groups) + max(0, lq - groups) // size
