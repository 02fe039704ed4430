"""Attention through learned latents: they read the keys, queries read them (Lee et al. 2019; Ma et al. 2021).

P = softmax(L k^T / sqrt(D)) for learned latents L (H, M, D);  out = softmax(q (P k)^T / sqrt(D)) (P v)

Both matrices are weights, so their product is too: the keys' weights, and with them mass and mean time, are exact.

Shape legend as in interface.py; M latents of a head.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.low_rank.nystrom import masked_softmax
from mmattn.attention.statistics import check_cap, columns, read_columns


class LatentAttention(Attention):
    """Every query reads the keys through `latents` summaries: linear in both lengths."""

    exact = True
    supports = frozenset({"weights", "mass", "mean_time"})
    time_cost = "(Lq + Lk) M D"
    memory_cost = "(Lq + Lk) (M + D)"
    reference = "Lee et al. 2019"

    def __init__(self, heads: int, head_dim: int, latents: int) -> None:
        super().__init__(heads, head_dim)
        if latents < 1:
            raise ValueError(f"attention.latents={latents}: expected 1 or more")
        self.latents = nn.Parameter(torch.randn(heads, latents, head_dim))

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        scale, wide = 1 / math.sqrt(q.shape[3]), torch.promote_types(q.dtype, torch.float32)
        measured: dict[str, Tensor] = {}
        with torch.autocast(q.device.type, enabled=False):  # in float16 a score above 65504 is infinite
            packing = masked_softmax(self.latents.to(wide) * scale @ k.to(wide).mT, k_geometry.keep)  # M x Lk
            keys, values = packing @ k.to(wide), packing @ v.to(wide)  # (B, H, M, D)
            reading = torch.softmax(q.to(wide) * scale @ keys.mT, dim=-1)  # Lq x M
            if stats & {"mass", "mean_time"}:
                facts = reading @ (packing @ columns(k, k_geometry, stats)[:, None])
                measured |= read_columns(facts, k_geometry, stats)
            if "weights" in stats:
                check_cap(q, k)
                measured["weights"] = reading @ packing
            out = (reading @ values).to(v.dtype)
        if k_geometry.keep is not None:
            none = ~k_geometry.keep.any(dim=1)[:, None, None]
            out = out.masked_fill(none[..., None], 0.0)
            for name, value in measured.items():
                measured[name] = value.masked_fill(none if value.dim() == 3 else none[..., None], 0.0)
        return AttentionOutput(out, measured)
