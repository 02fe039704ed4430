"""Near tokens one by one, far tokens by their summaries, under one softmax.

Shape legend as in interface.py; N summaries of the keys.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.hierarchical.groups import Groups, equal_groups
from mmattn.attention.interface import Attention, AttentionOutput, Blocks, Geometry, Pattern
from mmattn.attention.order import real, times
from mmattn.attention.patterns import plans
from mmattn.attention.patterns.time_window import EDGE_S
from mmattn.attention.patterns.windows import KeyWindow, window_blocks
from mmattn.types import widest


class CoarseFineAttention(Attention):
    """softmax attention in which far keys are read in groups (after Zhu & Soricut 2021, H-Transformer-1D).

    Each segment's real keys, in the order of time, are cut into `coarse` equal groups. A query at time t reads the keys
    of every group whose mean time is within `fine_s` of t, and of every other group its mean key and mean value, as
    often as it has keys: score + log size. Exact where groups hold equal keys, one key each, or lie within reach.
    Mass is exact, because no group mixes segments. Exempt tokens are read, and read, one by one.
    """

    exact = False
    supports = frozenset({"mass"})
    time_cost = "Lq (W + N) D"
    memory_cost = "(Lq + Lk) D + Lq (W + N)"
    reference = "Zhu & Soricut 2021"

    def __init__(self, heads: int, head_dim: int, coarse: int, fine_s: float) -> None:
        super().__init__(heads, head_dim)
        if coarse < 1 or not fine_s >= 0:
            raise ValueError(f"attention.coarse={coarse}, attention.fine_s={fine_s}: expected 1 or more, 0 s or more")
        self.near = NearGroups(heads, head_dim, coarse, fine_s)
        self._name = plans.register(self.near)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        plans.register(self.near)  # in another process, perhaps

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        lengths, split = k_geometry.lengths(k.shape[2]), "mass" in stats
        segments, scale = lengths if split else (k.shape[2],), 1 / math.sqrt(q.shape[3])
        if q_geometry.all_exempt or k_geometry.all_exempt:  # nothing is far
            out, mass, _ = attend(q, k, v, k_geometry.keep, None, segments, scale)
            return AttentionOutput(out, {"mass": mass} if split else {})
        fine = plans.plan(self.near, self._name, q, k, q_geometry, k_geometry)
        groups, coarse = plans.once(
            (self._name, "coarse"), q_geometry, k_geometry, lambda: self._coarse(q, k, q_geometry, k_geometry)
        )
        whole_q, whole_k = with_log_sizes(q, groups.means(k), groups.sizes, scale)
        of_groups = (self.near.coarse,) * len(lengths) if split else (groups.count,)
        found = [
            attend(q, k, v, None, fine, segments, scale),
            attend(whole_q, whole_k, groups.means(v), None, [coarse], of_groups, scale),
        ]
        out, share, _ = merge([out for out, _, _ in found], [lse for _, _, lse in found])
        mass = found[0][1] * share[..., 0, None] + found[1][1] * share[..., 1, None]
        return AttentionOutput(out, {"mass": mass} if split else {})

    def _coarse(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> tuple[Groups, Blocks]:
        """The groups, and what each query reads as a summary."""
        groups, centre, _ = self.near.groups(k, k_geometry)
        low, high = self.near.reach(q, q_geometry)
        inside = (centre[:, None] >= low[..., None]) & (centre[:, None] <= high[..., None])  # (B, Lq, N)
        return groups, _whole(~inside & centre.isfinite()[:, None])


class NearGroups(Pattern):
    """The keys of those of `coarse` equal groups of each segment whose mean time is within `fine_s` of the query's.

    Exempt keys are in no group: all queries read them. Exempt queries read all keys.
    """

    by_vectors = False
    reference = CoarseFineAttention.reference

    def __init__(self, heads: int, head_dim: int, coarse: int, fine_s: float) -> None:
        super().__init__(heads, head_dim)
        self.coarse = coarse
        self.fine_s = fine_s

    def plan(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[Blocks]:
        _, _, near = self.groups(k, k_geometry)
        low, high = self.reach(q, q_geometry)
        keeps = real(k_geometry, k).split(k_geometry.lengths(k.shape[2]), dim=1)
        windows = [KeyWindow(low, high, part) for part in near.split(k_geometry.lengths(k.shape[2]), dim=1)]
        for i, (name, _) in enumerate(k_geometry.segments):
            if name in k_geometry.exempt:
                position = widest(torch.where(keeps[i], 0.0, math.inf))
                windows[i] = KeyWindow(torch.full_like(low, -math.inf), torch.full_like(high, math.inf), position)
        return window_blocks(widest(times(q_geometry, q)).masked_fill(~real(q_geometry, q), math.inf), windows)

    def layout(self, q_geometry: Geometry, k_geometry: Geometry) -> list[bool]:
        return [False, True]

    def groups(self, k: Tensor, k_geometry: Geometry) -> tuple[Groups, Float[Tensor, "B N"], Float[Tensor, "B Lk"]]:
        """The groups, their mean times (+inf for one without keys), and that of each key's own group."""
        grouped = k_geometry
        if (exempt := k_geometry.exempt_flags(k)) is not None:
            grouped = replace(k_geometry, keep=real(k_geometry, k) & ~exempt)
        groups = equal_groups(grouped, k, self.coarse)
        centre = groups.means(widest(times(k_geometry, k))[:, None, :, None])[:, 0, :, 0]
        centre = centre.masked_fill(groups.sizes == 0, math.inf)
        return groups, centre, torch.nn.functional.pad(centre, (0, 1), value=math.inf).gather(1, groups.index)

    def reach(self, q: Tensor, q_geometry: Geometry) -> tuple[Float[Tensor, "B Lq"], Float[Tensor, "B Lq"]]:
        time = widest(times(q_geometry, q))
        low, high = time - self.fine_s - EDGE_S, time + self.fine_s + EDGE_S
        if (exempt := q_geometry.exempt_flags(q)) is None:
            return low, high
        return low.masked_fill(exempt, -math.inf), high.masked_fill(exempt, math.inf)


def _whole(mask: Tensor) -> Blocks:
    """One block a clip of all queries and all keys."""
    clips = torch.arange(mask.shape[0], device=mask.device)[:, None]
    query, key = (torch.arange(n, device=mask.device) + n * clips for n in mask.shape[1:])
    return Blocks(query, key, mask)


def with_log_sizes(
    q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H N D"], sizes: Float[Tensor, "B N"], scale: float
) -> tuple[Float[Tensor, "B H Lq D+1"], Float[Tensor, "B H N D+1"]]:
    """Add a channel so that log size is added to scale q.k: a key that represents n keys gets their weight."""
    wide = torch.promote_types(k.dtype, torch.float32)
    bonus = (sizes.to(wide).clamp(min=1.0).log() / scale)[:, None, :, None].expand(-1, k.shape[1], -1, -1)
    return torch.cat([q, torch.ones_like(q[..., :1])], dim=-1), torch.cat([k, bonus.to(k.dtype)], dim=-1)
