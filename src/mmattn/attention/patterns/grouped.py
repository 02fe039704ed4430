"""Patterns that sort queries and keys into groups by their vectors: a query reads the keys of its own group.

Groups are formed anew in each clip and head, without weights. Sorted by group, the keys of neighbouring queries are
contiguous again: these are windows over group numbers. A group holds a bounded number of keys, so cost is bounded too.

Shape legend as in interface.py; P = B * H heads of all clips, C groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention.interface import Blocks
from mmattn.attention.order import time_order
from mmattn.attention.patterns.members import group_blocks, listed_members
from mmattn.attention.patterns.time_window import Sparse

MOST_BUCKETS = 4096
HASHED_AT_ONCE = 1024  # vectors of a head: what a processor's cache holds
SCORES_AT_ONCE = 1 << 22  # of vectors and centroids: 16 MiB in float32


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

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        heads, lk = q.shape[1], k.shape[2]
        columns = max(1, min(MOST_BUCKETS // 2, -(-lk // (2 * self.bucket))))  # as many as a whole clip needs
        half, alike = self._half(k_local, heads), k_geometry.keep is None and not self._has_global(k_geometry)
        q_real, k_real = (x.repeat_interleave(heads, dim=0) for x in (q_local, k_local))
        width, parts, before = min(2 * self.bucket, lk), [], []
        with torch.no_grad():
            vectors = q.flatten(0, 1), torch.nn.functional.normalize(k.flatten(0, 1), dim=-1)
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
        """Its first columns are the same however many are asked for; drawn once for a width and a device."""
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


class Routing(Sparse):
    """k-means over a clip's keys; a query reads the `cluster` keys closest to its nearest centroid.

    (Roy et al. 2021, Routing Transformer, section 4.1, whose clusters are balanced in this way too.) The centroids are
    found anew by `iterations` of spherical k-means, started at keys spread evenly over time, instead of being carried
    from batch to batch: so a clip's result depends on that clip alone, and there is nothing to store.
    """

    per_head = True
    reference = "Roy et al. 2021"
    time_cost = "Lq cluster D + (Lq + Lk) Lk D / cluster"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        cluster: int,
        iterations: int = 3,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if cluster < 1 or iterations < 0:
            raise ValueError(f"cluster={cluster}, iterations={iterations}: expected 1 key and 0 iterations or more")
        self.cluster = cluster
        self.iterations = iterations

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        heads = q.shape[1]
        q_real, k_real = (kept.repeat_interleave(heads, dim=0) for kept in (q_local, k_local))
        count = (k_real.sum(dim=1) / self.cluster).ceil().long()  # clusters of each clip
        order = time_order(replace(k_geometry, keep=k_local), k).repeat_interleave(heads, dim=0)
        with torch.no_grad():
            queries, keys = (_directions(x) for x in (q, k))
            most = -(-k.shape[2] // self.cluster)  # of any clip
            centroids = k_means(keys, k_real, order, count, most, self.iterations)
            exists = torch.arange(centroids.shape[1], device=q.device) < count[:, None]  # (P, C)
            of_q = _nearest(queries, centroids, exists).masked_fill(~q_real | (count == 0)[:, None], most)
            affinity, closest = _closest(centroids, keys, k_real, min(self.cluster, keys.shape[1]))  # (P, C, K)
            held = exists[..., None] & affinity.isfinite()
        return [group_blocks(of_q, closest, held, k.shape[2], per_head=True)]

    def beside(self, segments: int) -> list[bool]:
        return [False]


def k_means(
    x: Float[Tensor, "P L E"],
    real: Bool[Tensor, "P L"],
    order: Int[Tensor, "P L"],
    count: Int[Tensor, " P"],
    most: int,
    iterations: int,
) -> Float[Tensor, "P C E"]:
    """Centroids of unit vectors, of length 1 too; `count` of at most `most`, started at vectors evenly spaced in
    `order`.
    """
    number = torch.arange(most, device=x.device)
    place = (2 * number + 1) * real.sum(dim=1, keepdim=True) // (2 * count[:, None].clamp(min=1))
    first = order.gather(1, place.clamp(max=max(0, x.shape[1] - 1)))
    centroids = x.gather(1, first[..., None].expand(-1, -1, x.shape[2]))
    exists = number < count[:, None]
    for _ in range(iterations if most else 0):
        nearest = _nearest(x, centroids, exists)
        sums = torch.zeros_like(centroids).scatter_add_(
            1, nearest[..., None].expand_as(x), torch.where(real[..., None], x, 0.0)
        )
        size = sums.norm(dim=2, keepdim=True)
        centroids = torch.where(size > 0, sums / size.clamp(min=1e-30), centroids)
    return centroids


def _nearest(
    x: Float[Tensor, "P L E"], centroids: Float[Tensor, "P C E"], exists: Bool[Tensor, "P C"]
) -> Int[Tensor, "P L"]:
    """The centroid that each vector is most alike to; 0 where there is none."""
    if not centroids.shape[1]:
        return torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
    step = max(1, SCORES_AT_ONCE // max(1, centroids[..., 0].numel()))
    parts = [(some @ centroids.mT).masked_fill_(~exists[:, None], -math.inf).argmax(dim=2) for some in x.split(step, 1)]
    return torch.cat(parts, dim=1)


def _closest(
    centroids: Float[Tensor, "P C E"], x: Float[Tensor, "P L E"], real: Bool[Tensor, "P L"], count: int
) -> tuple[Float[Tensor, "P C K"], Int[Tensor, "P C K"]]:
    """How alike the `count` most alike vectors of each centroid are, -inf for what is not real, and which they are."""
    step = max(1, SCORES_AT_ONCE // max(1, x[..., 0].numel()))
    parts = [
        (some @ x.mT).masked_fill_(~real[:, None], -math.inf).topk(count, dim=2) for some in centroids.split(step, 1)
    ]
    return torch.cat([part.values for part in parts], dim=1), torch.cat([part.indices for part in parts], dim=1)


def _directions(x: Float[Tensor, "B H L E"]) -> Float[Tensor, "P L E"]:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.nn.functional.normalize(wide, dim=-1).flatten(0, 1)
