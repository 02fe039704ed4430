"""LSH: a query reads the keys that fall into its bucket in any of several random hashes.

Buckets are formed anew in each clip and head, without weights, and hold a bounded number of keys, so that cost is
bounded too.

Shape legend as in interface.py; P = B * H heads of all clips, C columns of a rotation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention.directions import directions
from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.patterns.members import group_blocks, listed_members
from mmattn.attention.patterns.sparse import Sparse

MOST_BUCKETS = 4096
HASHED_AT_ONCE = 1024  # vectors of a head: what a processor's cache holds


class LSH(Sparse):
    """A query reads the keys that fall into its bucket in any of `rounds` random hashes.

    hash(x) = argmax [x R; -x R] with a random matrix R (Kitaev et al. 2020, Reformer, section 2; Andoni et al. 2015).
    There are as many buckets as `bucket` keys each would fill; one that has more than 2 * `bucket` keys keeps those
    that lie deepest in it. R follows from `seed`. Queries and keys need not be equal, as they are in Reformer; a query
    without a key in its buckets gives 0. A pair that meets in several rounds counts once.
    """

    per_head = True
    reference = "Kitaev et al. 2020"
    time_cost = "rounds Lq bucket D"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        bucket: int,
        rounds: int,
        seed: int = 0,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if bucket < 1 or rounds < 1:
            raise ValueError(f"bucket={bucket}, rounds={rounds}: expected 1 or more")
        self.bucket = bucket
        self.rounds = rounds
        self.seed = seed
        self.merges = rounds > 1
        self._rotations: dict[tuple[int, int, torch.device], Tensor] = {}

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        heads, lk = q.shape[1], k.shape[2]
        columns = max(1, min(MOST_BUCKETS // 2, -(-lk // (2 * self.bucket))))  # as many as a whole clip needs
        half, alike = self._half(k_local, heads), k_geometry.keep is None and not self._has_global(k_geometry)
        q_real, k_real = (x.repeat_interleave(heads, dim=0) for x in (q_local, k_local))
        width, parts, before = min(2 * self.bucket, lk), [], []
        with torch.no_grad():
            vectors = q.flatten(0, 1), directions(k.flatten(0, 1))
            for number in range(self.rounds):
                rotation = self._rotation(q, number, columns)
                of_q, _ = _hash(vectors[0], rotation, half, alike)  # (P, Lq)
                of_k, depth = _hash(vectors[1], rotation, half, alike)
                of_q = of_q.masked_fill(~q_real, 2 * columns)
                of_k, rank = _at_most(width, of_k.masked_fill(~k_real, 2 * columns), depth, 2 * columns)
                held = listed_members(of_k, rank, 2 * columns, width)
                part = group_blocks(of_q, *held, lk, per_head=True)
                for earlier_q, earlier_k in before:  # a pair that has met before does not meet again
                    part.mask.logical_and_(_apart(part, earlier_q, earlier_k))
                before.append((_negative(of_q, 2 * columns, -1).int(), _negative(of_k, 2 * columns, -2).int()))
                parts.append(part)
        return parts

    def beside(self, segments: int) -> list[bool]:
        return [False] * self.rounds

    def _half(self, k_local: Bool[Tensor, "B Lk"], heads: int) -> Int[Tensor, " P"]:
        """Half the number of buckets of each clip's heads; 0: a single bucket."""
        kept = k_local.sum(dim=1)
        half = (kept / self.bucket / 2).ceil().clamp(max=MOST_BUCKETS // 2).masked_fill(kept <= self.bucket, 0)
        return half.long().repeat_interleave(heads)

    def _rotation(self, q: Tensor, number: int, columns: int) -> Float[Tensor, "E C"]:
        """The first `columns` columns of one matrix, which is drawn once for a width and a device."""
        key = q.shape[3], number, q.device
        known = self._rotations.get(key)
        if known is None or known.shape[1] < columns:
            drawn = []
            for at in range(0, columns, 64):
                generator = torch.Generator().manual_seed((self.seed * 1000 + number) * MOST_BUCKETS + at)
                drawn.append(torch.randn(q.shape[3], 64, generator=generator))
            known = self._rotations[key] = torch.cat(drawn, dim=1).to(q.device)
        return known[:, :columns]


def _hash(
    x: Float[Tensor, "P L E"], rotation: Float[Tensor, "E C"], half: Int[Tensor, " P"], alike: bool
) -> tuple[Int[Tensor, "P L"], Float[Tensor, "P L"]]:
    """The bucket of each vector, and how deep it lies there: the component in the bucket's direction.

    `half`: how many columns of the rotation count in each row; `alike`: all of them in every row.
    """
    buckets, depths = [], []
    beyond = torch.arange(rotation.shape[1], device=x.device) >= half[:, None, None]
    for some in x.to(rotation.dtype).split(HASHED_AT_ONCE, dim=1):
        turned = some @ rotation
        size = turned.abs()
        if not alike:
            size.masked_fill_(beyond, -1.0)
        depth, bucket = size.max(dim=-1)
        sign = turned.gather(2, bucket[..., None])[..., 0] < 0
        buckets.append((2 * bucket + sign).masked_fill_(half[:, None] == 0, 0))
        depths.append(depth)
    return torch.cat(buckets, dim=1), torch.cat(depths, dim=1)


def _negative(group: Int[Tensor, "P L"], none: int, name: int) -> Int[Tensor, "P L"]:
    """With a number of its own for tokens that are in no group: queries and keys do not meet in it."""
    return group.masked_fill(group == none, name)


def _at_most(
    most: int, group: Int[Tensor, "P L"], depth: Float[Tensor, "P L"], none: int
) -> tuple[Int[Tensor, "P L"], Int[Tensor, "P L"]]:
    """The groups, `none` for members beyond the `most` deepest of a group; and each member's rank in its group."""
    deepest = depth.argsort(dim=1, descending=True, stable=True)
    order = deepest.gather(1, group.gather(1, deepest).argsort(dim=1, stable=True))  # by group, then by depth
    ordered = group.gather(1, order).contiguous()
    rank = torch.arange(group.shape[1], device=group.device) - torch.searchsorted(ordered, ordered)
    left = torch.empty_like(group).scatter_(1, order, ordered.masked_fill(rank >= most, none))
    return left, torch.empty_like(rank).scatter_(1, order, rank)


def _apart(part: Blocks, of_q: Int[Tensor, "P Lq"], of_k: Int[Tensor, "P Lk"]) -> Bool[Tensor, "G Q W"]:
    """Which pairs of the blocks are not in one group of an earlier round; negative numbers are no groups."""
    queries = of_q.flatten()[part.query.clamp(max=of_q.numel() - 1)]
    return queries[..., None] != of_k.flatten()[part.key][:, None]
