"""How alike a query and a key are, other than by their dot product. With any pattern and any normaliser.

Shape legend as in interface.py.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmattn.attention.interface import Score

COARSE = 64.0  # a power of 2, so that multiplying by it is exact


class Cosine(Score):
    """cos(q, k) / temperature (Liu et al. 2022, Swin Transformer V2, eq. 2). `learned`: each head its own, above 0.01.

    Scores stay within 1 / temperature, however large q and k grow.
    """

    reference = "Liu et al. 2022"

    def __init__(self, heads: int, head_dim: int, temperature: float, learned: bool) -> None:
        super().__init__(heads, head_dim)
        if not temperature > 0:
            raise ValueError(f"attention.score.temperature={temperature}: expected more than 0")
        self.temperature = temperature
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), -math.log(temperature))) if learned else None

    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lk D"], float]:
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        if self.logit_scale is None:
            return q, k, 1 / self.temperature
        return (q * self.logit_scale.clamp(max=math.log(100)).exp()).to(k.dtype), k, 1.0


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
