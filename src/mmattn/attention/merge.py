"""Softmax attention over parts of the keys, merged exactly by log-sum-exp; no autograd here (attend.py has it).

softmax over a union of parts = sum_p w_p * softmax over part p, with w_p = exp(lse_p - logsumexp(lse)).
(Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"; used as in FlashAttention's split-KV.)
The shares w_p are the attention mass on each part: exact, and without the Lq x Lk matrix.

Shape legend: G blocks (or clips), H heads, Q queries, W keys, D channels of a head, S pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention import kernels


@dataclass(frozen=True)
class Piece:
    """Some columns of a block of keys, and which pairs of them are read (None: all)."""

    columns: slice
    mask: Bool[Tensor, "G #H #Q W"] | None


def cut(widths: Sequence[int], mask: Tensor | None) -> list[Piece]:
    """A piece for each run of `widths` columns."""
    pieces, start = [], 0
    for width in widths:
        columns = slice(start, start + width)
        pieces.append(Piece(columns, None if mask is None else mask[..., columns]))
        start += width
    return pieces


def shares(
    lses: Float[Tensor, "*B S"],
) -> tuple[Float[Tensor, "*B S"], Float[Tensor, "*B"]]:
    """The share of each part in the whole, and the log-sum-exp of the whole; 0 and -inf where no part holds a key."""
    total = torch.logsumexp(lses, dim=-1)
    return torch.exp(lses - torch.where(total == -math.inf, 0.0, total)[..., None]), total


def merge(outs: Sequence[Float[Tensor, "*B D"]], lses: Float[Tensor, "*B S"]) -> Float[Tensor, "*B D"]:
    """The attention over all parts together."""
    if len(outs) == 1:
        return outs[0]
    share, _ = shares(lses)
    out = outs[0] * share[..., 0, None]  # in the wider of the two types
    for i, part in enumerate(outs[1:], start=1):
        out.addcmul_(part.to(out.dtype), share[..., i, None].to(out.dtype))
    return out.to(outs[0].dtype)


def forward(
    q: Tensor, k: Tensor, v: Tensor, pieces: Sequence[Piece], scale: float
) -> tuple[Float[Tensor, "G H Q D"], Float[Tensor, "G H Q S"]]:
    """The output over all pieces, and the log-sum-exp of each."""
    parts = [kernels.forward(q, k[:, :, p.columns], v[:, :, p.columns], p.mask, scale) for p in pieces]
    lses = torch.stack([lse for _, lse in parts], dim=-1)
    return merge([out for out, _ in parts], lses), lses


def backward(
    d_out: Tensor,
    extra: Float[Tensor, "G H Q S+1"] | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    pieces: Sequence[Piece],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, each piece by its kernel's own backward with the output and log-sum-exp of the whole.

    `extra`: gradients g_s of the mass of each piece and, last, their mean under it, sum_s g_s mass_s (less the gradient
    of the log-sum-exp). The score of a pair in piece s then has the gradient
    weight * (d_out . v + g_s - d_out . out - mean): two more channels of v, d_out and out give it.
    """
    d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    width = v.shape[3]
    for i, piece in enumerate(pieces):
        k_part, v_part, d_out_part, out_part = k[:, :, piece.columns], v[:, :, piece.columns], d_out, out
        if extra is not None:
            own, mean = extra[..., i, None].to(out.dtype), extra[..., -1:].to(out.dtype)
            one, one_key = torch.ones_like(own), torch.ones_like(v_part[..., :1])
            v_part = torch.cat([v_part, one_key, torch.zeros_like(one_key)], dim=-1)
            d_out_part = torch.cat([d_out, own, one], dim=-1)
            out_part = torch.cat([out, torch.zeros_like(own), mean], dim=-1)
        grads = kernels.backward(d_out_part, q, k_part, v_part, out_part, lse, piece.mask, scale)
        if len(pieces) == 1:
            return grads[0], grads[1], grads[2][..., :width]
        d_q += grads[0]
        d_k[:, :, piece.columns] += grads[1]
        d_v[:, :, piece.columns] += grads[2][..., :width]
    return d_q, d_k, d_v
