"""Fewer keys: the most similar are merged before they are read (Bolya et al. 2023, ToMe, section 3).

Shape legend as in interface.py; N keys after merging; C chunks of a segment, W pairs of a chunk.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.directions import directions
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.hierarchical.coarse_fine import with_log_sizes
from mmattn.attention.hierarchical.groups import Groups
from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import by_segment, time_order


class TokenMergingAttention(Attention):
    """softmax attention over merged keys, each counted as often as it has members: score + log size (their eq. 1).

    Of each segment's real keys in the order of time, every other one looks for the most alike (cosine, mean over heads)
    of the rest, among `neighbours` around it (0: among all, which costs Lk^2). The best pairs, `ratio` of all keys, are
    merged into their means. Exact for ratio 0, and where merged keys and their values are equal. Mass is exact, because
    no merged key mixes segments.
    """

    exact = False
    supports = frozenset({"mass"})
    time_cost = "Lq N D + Lk W D"
    memory_cost = "(Lq + Lk) D + Lk W"
    reference = "Bolya et al. 2023"

    def __init__(self, heads: int, head_dim: int, ratio: float, neighbours: int) -> None:
        super().__init__(heads, head_dim)
        if not 0 <= ratio <= 0.5:
            raise ValueError(f"attention.ratio={ratio}: expected 0 to 0.5, as each key merges with one other at most")
        if neighbours < 0:
            raise ValueError(f"attention.neighbours={neighbours}: expected 0 (all) or more")
        self.ratio = ratio
        self.neighbours = neighbours

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        indices, counts = [], []
        names = [name for name, _ in k_geometry.segments] or [""]
        for name, (keys, _, keep, time) in zip(names, by_segment(k, v, k_geometry), strict=True):
            order = time_order(Geometry(keep, time), keys)
            near = 0 if name in k_geometry.exempt else self.neighbours
            index, count = self._merged(keys.detach().mean(dim=1), keep, order, near)
            indices.append(torch.where(index < count, index + sum(counts), -1))
            counts.append(count)
        index = torch.cat(indices, dim=1)
        groups = Groups.of(torch.where(index < 0, sum(counts), index), sum(counts))
        scale = 1 / math.sqrt(q.shape[3])
        whole_q, whole_k = with_log_sizes(q, groups.means(k), groups.sizes, scale)
        segments = tuple(counts) if "mass" in stats else (groups.count,)
        out, mass, _ = attend(whole_q, whole_k, groups.means(v), groups.sizes > 0, None, segments, scale)
        return AttentionOutput(out, {"mass": mass} if "mass" in stats else {})

    def _merged(
        self, keys: Float[Tensor, "B Ls D"], keep: Bool[Tensor, "B Ls"], order: Int[Tensor, "B Ls"], neighbours: int
    ) -> tuple[Int[Tensor, "B Ls"], int]:
        """Which merged key each key becomes part of, and of how many; padding: that number."""
        length = keys.shape[1]
        width = neighbours or (length + 1) // 2  # pairs of a chunk, the same whatever the padding
        alike = directions(keys).gather(1, order[..., None].expand_as(keys))
        alike = pad(alike, (0, 0, 0, -length % (2 * width))).unflatten(1, (-1, width, 2))  # (B, C, W, 2, D)
        live = pad(keep.gather(1, order), (0, -length % (2 * width))).unflatten(1, (-1, width, 2))
        cosine = alike[..., 0, :] @ alike[..., 1, :].mT  # (B, C, W, W)
        best, partner = cosine.masked_fill(~live[:, :, None, :, 1], -math.inf).max(dim=-1)
        best = best.masked_fill(~live[..., 0], -math.inf).flatten(1)  # (B, C W): of every first of a pair
        partner = (partner + width * torch.arange(partner.shape[1], device=keys.device)[:, None]).flatten(1)
        wanted = (self.ratio * keep.sum(dim=1)).floor().clamp(max=best.isfinite().sum(dim=1))
        rank = best.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        merges = rank < wanted[:, None]
        stays = live[..., 0].flatten(1) & ~merges
        seconds = length // 2  # each keeps its own place; then those firsts that stay
        count = seconds + min(length - seconds, math.floor((0.5 - self.ratio) * length + 2.5))
        first = torch.where(merges, partner, torch.where(stays, seconds + stays.cumsum(dim=1) - 1, count))
        second = torch.arange(best.shape[1], device=keys.device).expand_as(first)
        second = torch.where(live[..., 1].flatten(1), second, count)
        index = torch.stack([first, second], dim=-1).flatten(1)[:, :length]
        return torch.empty_like(index).scatter_(1, order, index), count
