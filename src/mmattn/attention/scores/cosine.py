"""Scores by angle. With any pattern and any normaliser.

Shape legend as in interface.py.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.directions import directions
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
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), -math.log(temperature))) if learned else None

    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lk D"], float]:
        q, k = (directions(x).to(x.dtype) for x in (q, k))
        if self.logit_scale is None:
            return q, k, 1 / self.temperature
        return (q * self.logit_scale.clamp(max=math.log(100)).exp()).to(k.dtype), k, 1.0
