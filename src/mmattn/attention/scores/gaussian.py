"""Scores by distance. With any pattern and any normaliser.

Shape legend as in interface.py.

"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Score

COARSE = 64.0  # a power of 2, so that multiplying by it is exact


class Gaussian(Score):
    """-|q - k|^2 / (2 sqrt(D)): softmax then weighs keys by a Gaussian around the query (Kim et al. 2021, L2).

    By |q - k|^2 = |q|^2 - 2 q.k + |k|^2 it is a dot product with two more channels. In a type of 16 bits it has four:
    half a square there is COARSE times a rounded part, so that it stays below 65504, and the rest, so that it is exact.
    """

    reference = "Kim et al. 2021"

    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq E"], Float[Tensor, "B H Lk E"], float]:
        of_q, of_k = _half_square(q), _half_square(k)
        one_q, one_k = torch.ones_like(of_q), torch.ones_like(of_k)
        if of_q.shape[3] == 2:
            one_q[..., 0], one_k[..., 0] = COARSE, COARSE
        more_q, more_k = torch.cat([q, of_q, one_q], dim=-1), torch.cat([k, one_k, of_k], dim=-1)
        return more_q, more_k, 1 / math.sqrt(q.shape[-1])


def _half_square(x: Float[Tensor, "B H L D"]) -> Float[Tensor, "B H L C"]:
    """-|x|^2 / 2 in one channel; in 16 bits in two, of which the second carries the gradient."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    half = -wide.square().sum(dim=-1, keepdim=True) / 2
    if x.dtype == wide.dtype:
        return half
    coarse = (half.detach() / COARSE).to(x.dtype)
    return torch.cat([coarse, (half - COARSE * coarse.to(wide.dtype)).to(x.dtype)], dim=-1)
