"""Routing: queries and keys in clusters; a query reads the keys of the cluster nearest to it.

Clusters are found anew in each clip and head, without weights, and hold a bounded number of keys, so that cost is
bounded too.

Shape legend as in interface.py; P = B * H heads of all clips, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention.directions import directions
from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.order import time_order
from mmattn.attention.patterns.members import group_blocks
from mmattn.attention.patterns.sparse import Sparse

SCORES_AT_ONCE = 1 << 22  # of vectors and centroids: 16 MiB in float32


class Routing(Sparse):
    """k-means over a clip's keys; a query reads the `cluster` keys closest to its nearest centroid.

    (Roy et al. 2021, Routing Transformer, section 4.1, whose clusters are balanced in this way too.) The centroids are
    found anew by `iterations` of spherical k-means, starting from keys spread evenly over time, instead of a moving
    average over batches: a clip's result depends on that clip alone, and nothing has to be stored.
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

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        heads = q.shape[1]
        q_real, k_real = (kept.repeat_interleave(heads, dim=0) for kept in (q_local, k_local))
        count = (k_real.sum(dim=1) / self.cluster).ceil().long()  # clusters of each clip
        order = time_order(replace(k_geometry, keep=k_local), k).repeat_interleave(heads, dim=0)
        with torch.no_grad():
            queries, keys = (directions(x.flatten(0, 1)) for x in (q, k))
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
    """Spherical k-means: `count` (at most `most`) centroids of length 1 for each row of unit vectors.

    The first centroids are vectors evenly spaced in `order`.
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
