"""Attention and its gradients in plain PyTorch, for devices and types without a fused kernel that can be trusted.

Shape legend as in kernels.py.

"""

from __future__ import annotations

import math

import torch
from torch import Tensor

HIDDEN = -1e38  # no score outweighs it
CHUNK_ELEMENTS = 1 << 24  # scores held at once by the portable path: 64 MiB in float32


def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Any device and dtype: queries in chunks, so that memory stays bounded as Lq grows."""
    if not q.shape[0] * q.shape[2]:  # no block, or none with a query
        wide = torch.promote_types(q.dtype, torch.float32)
        return q.new_zeros(*q.shape[:3], v.shape[3]), q.new_full(q.shape[:3], -math.inf, dtype=wide)
    outs, lses = [], []
    for rows in _row_chunks(q, k):
        scores = _scores(q[:, :, rows], k, _rows_of(mask, rows), scale)
        lse = torch.logsumexp(scores, dim=-1)
        weights = torch.exp(scores - torch.where(lse == -math.inf, 0.0, lse)[..., None])
        outs.append((weights @ at_least_float32(v)).to(v.dtype))
        lses.append(lse)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, as of kernels.backward."""
    if not q.shape[0] * q.shape[2]:
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    d_out, out = d_out.to(lse.dtype), out.to(lse.dtype)
    d_qs, d_k, d_v = [], torch.zeros_like(k, dtype=lse.dtype), torch.zeros_like(v, dtype=lse.dtype)
    for rows in _row_chunks(q, k):
        weights = torch.exp(_scores(q[:, :, rows], k, _rows_of(mask, rows), scale) - lse[:, :, rows, None])
        gradient = d_out[:, :, rows]
        delta = (gradient * out[:, :, rows]).sum(dim=-1, keepdim=True)
        d_scores = weights * ((gradient @ at_least_float32(v).mT) - delta) * scale
        d_qs.append((d_scores @ at_least_float32(k)).to(q.dtype))
        d_k += d_scores.mT @ at_least_float32(q[:, :, rows])
        d_v += weights.mT @ gradient
    return torch.cat(d_qs, dim=2), d_k.to(k.dtype), d_v.to(v.dtype)


def _row_chunks(q: Tensor, k: Tensor) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    return [slice(at, at + step) for at in range(0, q.shape[2], step)]


def _rows_of(mask: Tensor | None, rows: slice) -> Tensor | None:
    return mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows]


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = (at_least_float32(q) * scale) @ at_least_float32(k).mT  # a product of float16 above 65504 is infinite
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it already is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
