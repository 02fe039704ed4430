"""Attention over parts of the keys, merged exactly by log-sum-exp.

softmax over the union of parts = sum_m w_m * softmax over part m, with w_m = exp(lse_m - logsumexp(lse)).
The weights w_m are the attention mass on each part: exact, and without the Lq x Lk matrix.
(Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"; used as in FlashAttention's split-KV.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK_ELEMENTS = 1 << 24  # scores held at once by the portable path: 64 MiB in float32


def attend_with_lse(
    q: Float[Tensor, "B H Lq D"],
    k: Float[Tensor, "B H Lk D"],
    v: Float[Tensor, "B H Lk D"],
    keep: Bool[Tensor, "B Lk"] | None,
    scale: float,
) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq"]]:
    """Softmax attention and the log-sum-exp (float32 or wider) of its scaled scores. No gradient flows through it.

    A query without a real key gives out 0 and lse -inf, on every backend: they disagree (0, +inf, -inf), so both
    are forced from the mask.
    """
    with torch.no_grad():
        bias = None
        if keep is not None:
            bias = torch.zeros(keep.shape, dtype=q.dtype, device=q.device).masked_fill_(~keep, -math.inf)
            bias = bias[:, None, None, :]
        out, lse = _fused(q, k, v, bias, scale) if _has_fused(q, k, v) else _portable(q, k, v, bias, scale)
        if keep is not None:
            empty = ~keep.any(dim=1)[:, None, None]
            lse = lse.masked_fill(empty, -math.inf)
            out = out.masked_fill(empty[..., None], 0.0)
        return out, lse


def merge(outs: list[Tensor], lses: list[Tensor]) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"]]:
    """The attention over all parts together, and the mass on each part."""
    stacked = torch.stack(lses, dim=-1)  # (B, H, Lq, S)
    total = torch.logsumexp(stacked, dim=-1, keepdim=True)
    mass = torch.where(total == -math.inf, 0.0, torch.exp(stacked - total))
    out = sum(part.to(mass.dtype) * mass[..., i, None] for i, part in enumerate(outs))
    assert isinstance(out, Tensor)
    return out.to(outs[0].dtype), mass


def _has_fused(q: Tensor, k: Tensor, v: Tensor) -> bool:
    # The CPU kernel that returns the log-sum-exp is a private operator: used only where it exists and takes the shapes.
    return (
        q.device.type == "cpu"
        and q.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and q.shape[-1] == v.shape[-1]
        and min(q.shape[-2], k.shape[-2]) > 0
        and hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
    )


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    if bias is not None:
        bias = bias.expand(-1, 1, q.shape[2], -1)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=bias, scale=scale
    )
    return out, lse


def _portable(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Any device and dtype: queries in chunks, so that memory stays bounded as Lq grows."""
    step = max(1, CHUNK_ELEMENTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    wide = torch.promote_types(q.dtype, torch.float32)
    outs, lses = [], []
    for part in q.split(step, dim=2):
        scores = (part @ k.mT).to(wide) * scale
        if bias is not None:
            scores = scores + bias
        lse = torch.logsumexp(scores, dim=-1)
        weights = torch.exp(scores - torch.where(lse == -math.inf, 0.0, lse)[..., None])
        outs.append(weights.to(v.dtype) @ v)
        lses.append(lse)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)
