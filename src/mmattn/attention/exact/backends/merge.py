"""Softmax attention over parts of the keys, merged exactly by log-sum-exp; no autograd here (softmax.py has it).

softmax over a union of parts = sum_p w_p * softmax over part p, with w_p = exp(lse_p - logsumexp(lse)).
(Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"; used as in FlashAttention's split-KV.)
The shares w_p are the attention mass on each part: exact, and without the Lq x Lk matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def shares(lses: Float[Tensor, "*B S"]) -> tuple[Float[Tensor, "*B S"], Float[Tensor, "*B"]]:
    """The share of each part in the whole, and the log-sum-exp of the whole; 0 and -inf if no part has a key."""
    total = torch.logsumexp(lses, dim=-1)
    none = total.isneginf()[..., None]
    return torch.softmax(lses.masked_fill(none, 0.0), dim=-1).masked_fill(none, 0.0), total  # sums to 1 at any size


def merge(
    outs: Sequence[Float[Tensor, "*B D"]], lses: Sequence[Float[Tensor, "*B"]]
) -> tuple[Float[Tensor, "*B D"], Float[Tensor, "*B S"], Float[Tensor, "*B"]]:
    """The attention over all parts together, the share of each part, and the log-sum-exp of the whole."""
    if len(outs) == 1:
        return outs[0], (~lses[0].isneginf()).to(lses[0].dtype)[..., None], lses[0]
    share, total = shares(torch.stack(list(lses), dim=-1))
    out = outs[0] * share[..., 0, None]  # in the wider of the two types
    for i, part in enumerate(outs[1:], start=1):
        out.addcmul_(part.to(out.dtype), share[..., i, None].to(out.dtype))
    return out.to(outs[0].dtype), share, total
