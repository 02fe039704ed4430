"""Sigmoid weights: no competition between keys.

Shape legend as in interface.py.

"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmattn.attention.interface import Normaliser


class Sigmoid(Normaliser):
    """sigmoid(score - log n) for a query of n keys: no competition, yet sums near 1 at first (Ramapuram et al. 2024).

    `learned`: each head adds a bias of its own, 0 at first.
    """

    reference = "Ramapuram et al. 2024"

    def __init__(self, heads: int, head_dim: int, learned: bool) -> None:
        super().__init__(heads, head_dim)
        self.bias = nn.Parameter(torch.zeros(heads, 1, 1)) if learned else None

    def forward(self, scores: Float[Tensor, "*G H Q W"], mask: Bool[Tensor, "*G #H #Q W"]) -> Float[Tensor, "*G H Q W"]:
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        bias = -mask.sum(dim=-1, keepdim=True).clamp(min=1).to(scores.dtype).log()
        if self.bias is not None:
            bias = bias + self.bias
        return torch.sigmoid(scores + torch.where(mask, bias, -torch.inf))
