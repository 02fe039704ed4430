"""Linformer: keys and values projected to a fixed number of tokens.

Shape legend as in interface.py; R rank of a segment.

"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.exact.attention import ExactAttention
from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import by_segment, real, time_rank
from mmattn.types import widest


class LinformerAttention(Attention):
    """Keys and values of each segment are projected to `rank` tokens, E k and F v (Wang et al. 2020, eq. 7).

    E and F have a column for each of `positions` places, spread over the real tokens of a segment in the order of time:
    token j of n has column (j + 1/2) positions / n, between two columns their mean by distance, times positions / n. A
    segment of `positions` tokens meets the paper's E; any other length, a stretched one; padding, none. Both are shared
    by heads and segments and begin as means over `rank` equal parts. Mass is that on the projected tokens of a segment.
    """

    exact = True
    supports = frozenset({"mass"})
    time_cost = "(Lq + Lk) R D"
    memory_cost = "(Lq + Lk) (R + D)"
    reference = "Wang et al. 2020"

    def __init__(self, heads: int, head_dim: int, rank: int, positions: int) -> None:
        super().__init__(heads, head_dim)
        if not 1 <= rank <= positions:
            raise ValueError(f"attention.rank={rank}, attention.positions={positions}: expected 1 <= rank <= positions")
        self.rank = rank
        means = nn.functional.one_hot(torch.arange(positions) * rank // positions, rank).float()
        means = (means / means.sum(dim=0)).mT.repeat(2, 1, 1)  # E and F, (2, R, P)
        self.projections = nn.Parameter(means + 0.1 / positions * torch.randn_like(means))
        self.attention = ExactAttention(heads, head_dim)

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        keys, values, kept = [], [], []
        for of_k, of_v, keep, time in by_segment(k, v, k_geometry):
            projected = self._project(of_k, of_v, Geometry(keep, time))
            keys.append(projected[0])
            values.append(projected[1])
            kept.append(keep.any(dim=1, keepdim=True).expand(-1, self.rank))
        segments = tuple((str(i), self.rank) for i in range(len(keys)))
        all_real = k_geometry.keep is None and min(k_geometry.lengths(k.shape[2])) > 0
        shorter = Geometry(None if all_real else torch.cat(kept, dim=1), None, segments)
        with torch.autocast(q.device.type, enabled=False):  # a mix of keys of float16 may be beyond its largest number
            found = self.attention(q, torch.cat(keys, dim=2), torch.cat(values, dim=2), q_geometry, shorter, stats)
        return replace(found, out=found.out.to(v.dtype))

    def _project(self, k: Tensor, v: Tensor, geometry: Geometry) -> Float[Tensor, "2 B H R D"]:
        """E k and F v, in float32 or wider.

        Tokens are first shared out among the `positions` places, then those are projected.
        """
        keep, positions = real(geometry, k), self.projections.shape[2]
        stretch = positions / widest(keep.sum(dim=1, keepdim=True).clamp(min=1))
        place = ((time_rank(geometry, k) + 0.5) * stretch - 0.5).clamp(0, positions - 1)
        low = place.floor()
        far = place - low
        low, clips = low.long(), positions * torch.arange(len(k), device=k.device)[:, None]
        rows = torch.cat([x.transpose(1, 2).flatten(2) for x in (k, v)], dim=2).flatten(0, 1)  # (B L, 2 H D)
        wide = torch.promote_types(k.dtype, torch.float32)
        shared = torch.zeros(len(k) * positions, rows.shape[1], dtype=wide, device=k.device)
        for at, part in ((low, 1 - far), ((low + 1).clamp(max=positions - 1), far)):
            part = (part * stretch * keep).flatten()[:, None].to(wide)
            shared = shared.index_add(0, (at + clips).flatten(), rows * part)
        shared = shared.view(len(k), positions, 2, -1).permute(2, 0, 1, 3)  # (2, B, P, H D)
        with torch.autocast(k.device.type, enabled=False):  # many shares of either sign
            projected = self.projections.to(wide)[:, None] @ shared  # (2, B, R, H D)
        return projected.unflatten(3, (k.shape[1], -1)).transpose(2, 3)
