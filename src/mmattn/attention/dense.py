"""Dense scaled dot-product attention (Vaswani et al. 2017, eq. 1), with exact modality mass on request."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.merge import attend_with_lse, merge

MAX_WEIGHTS = 1 << 26  # elements of an explicit matrix: 256 MiB in float32


class DenseAttention(Attention):
    """Every query reads every real key. Cost O(Lq Lk D) time, O(Lq D) memory.

    Mass comes from one block for each segment, merged by log-sum-exp. Where a gradient is needed as well, the output
    comes from the stock kernel and the mass (which carries no gradient) from a second pass.
    """

    exact = True
    supports = frozenset({"weights", "mass"})
    time_cost = "Lq Lk D"
    memory_cost = "(Lq + Lk) D"
    reference = "Vaswani et al. 2017"

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        self.check_stats(stats)
        keep = k_geometry.keep
        measured: dict[str, Tensor] = {}
        merged = None
        if "mass" in stats:
            merged, measured["mass"] = _by_segment(q, k, v, k_geometry)
        if "weights" in stats:
            measured["weights"] = explicit_weights(q, k, keep)
        needs_grad = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        if merged is not None and not needs_grad:
            return AttentionOutput(merged, measured)
        mask = None if keep is None else keep[:, None, None, :]
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if keep is not None:  # backends differ on a query without any key; ours gives 0
            out = out.masked_fill(~keep.any(dim=1)[:, None, None, None], 0.0)
        return AttentionOutput(out, measured)


def _by_segment(q: Tensor, k: Tensor, v: Tensor, k_geometry: Geometry) -> tuple[Tensor, Tensor]:
    lengths = [length for _, length in k_geometry.segments]
    if sum(lengths) != k.shape[2]:
        raise ValueError(f"segments {k_geometry.segments} hold {sum(lengths)} keys, but there are {k.shape[2]}")
    keep = k_geometry.keep
    keeps = keep.split(lengths, dim=1) if keep is not None else [None] * len(lengths)
    scale = 1 / math.sqrt(q.shape[-1])
    blocks = [
        attend_with_lse(q, k_part, v_part, keep_part, scale)
        for k_part, v_part, keep_part in zip(k.split(lengths, dim=2), v.split(lengths, dim=2), keeps, strict=True)
    ]
    return merge([out for out, _ in blocks], [lse for _, lse in blocks])


def explicit_weights(q: Tensor, k: Tensor, keep: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(D)) as a matrix (B, H, Lq, Lk), 0 in rows without a key. Raises ValueError above the cap."""
    size = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if size > MAX_WEIGHTS:
        raise ValueError(
            f"an explicit matrix of {size} weights is above the cap of {MAX_WEIGHTS}; ask for mass instead"
        )
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if keep is not None:
        scores = scores.masked_fill(~keep[:, None, None, :], -math.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0)
