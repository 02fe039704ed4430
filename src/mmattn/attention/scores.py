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
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), -math.log(temperature))) if learned else None

    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lk D"], float]:
        q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        if self.log_scale is None:
            return q, k, 1 / self.temperature
        return (q * self.log_scale.clamp(max=math.log(100)).exp()).to(k.dtype), k, 1.0


class Gaussian(Score):
    """-|q - k|^2 / (2 sqrt(D)): softmax then weighs keys by a Gaussian around the query (Kim et al. 2021, L2).

    By |q - k|^2 = |q|^2 - 2 q.k + |k|^2 it is a dot product with two more channels.
    """

    reference = "Kim et al. 2021"

    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq D+2"], Float[Tensor, "B H Lk D+2"], float]:
        of_q, of_k = (-x.square().sum(dim=-1, keepdim=True) / 2 for x in (q, k))
        more_q = torch.cat([q, of_q, torch.ones_like(of_q)], dim=-1)
        more_k = torch.cat([k, torch.ones_like(of_k), of_k], dim=-1)
        return more_q, more_k, 1 / math.sqrt(q.shape[-1])
