"""FAVOR+: softmax attention estimated by random features, in linear time.

Shape legend as in interface.py; F features.

"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.interface import Geometry
from mmattn.attention.linear.features import FeatureAttention, masked


class PerformerAttention(FeatureAttention):
    """FAVOR+: an unbiased estimate of softmax attention from positive random features (Choromanski et al. 2021).

    phi(x) = exp(w_r . x - |x|^2 / 2) / sqrt(F) for x = q or k / D^(1/4) and F random directions w_r, orthogonal in
    blocks of D with the lengths of Gaussian vectors (section 2.4). The error falls as 1 / sqrt(F), once F is large
    against exp(|q| |k| / sqrt(D)).

    Evaluation uses the directions drawn from `seed`: results repeat, and no weights are added. With `redraw`, every
    step of training draws new ones from torch's random numbers, as dropout does, so that the model cannot learn to rely
    on one draw.
    """

    exact = False
    reference = "Choromanski et al. 2021"
    directions: Tensor

    def __init__(self, heads: int, head_dim: int, features: int, redraw: bool, seed: int) -> None:
        super().__init__(heads, head_dim)
        if features < 1:
            raise ValueError(f"attention.features={features}: expected 1 or more")
        self.redraw = redraw
        drawn = orthogonal_directions(features, head_dim, torch.Generator().manual_seed(seed))
        self.register_buffer("directions", drawn, persistent=False)

    def phi(self, q: Tensor, k: Tensor, k_geometry: Geometry) -> tuple[Tensor, Tensor]:
        directions = self.directions
        if self.redraw and self.training:
            directions = orthogonal_directions(len(directions), self.head_dim, like=directions)
        directions = directions.to(q.dtype) * q.shape[-1] ** -0.25
        half = k.square().sum(dim=-1, keepdim=True) * (-0.5 / math.sqrt(k.shape[-1]))
        of_k = torch.cat([k, half], dim=-1) @ pad(directions, (0, 1), value=1.0).mT  # -|q|^2 / 2 cancels
        of_k = masked(of_k, k_geometry, -math.inf)
        of_q = q @ directions.mT
        # The largest key feature of each direction moves to the query's side, where the row's largest cancels: both
        # are then at most 1, and the sum over all keys at least 1. The result does not change, so neither has a slope.
        with torch.no_grad():
            highest = of_k.amax(dim=2, keepdim=True).clamp(min=torch.finfo(k.dtype).min)  # (B, H, 1, F)
            largest = (of_q + highest).amax(dim=-1, keepdim=True)
        return of_q.add_(highest).sub_(largest).exp_(), of_k.sub_(highest).exp_()


def orthogonal_directions(
    count: int, dim: int, generator: torch.Generator | None = None, like: Tensor | None = None
) -> Float[Tensor, "F D"]:
    """Gaussian vectors that are orthogonal to each other within each block of `dim`, of Gaussian vectors' lengths.

    Drawn where `like` is, in its type: nothing of it is the processor's work in a step on a device.
    """
    kind = torch.zeros((), dtype=torch.float64) if like is None else like
    blocks, options = -(-count // dim), {"generator": generator, "dtype": kind.dtype, "device": kind.device}
    q, r = torch.linalg.qr(torch.randn(blocks, dim, dim, **options))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]  # makes q uniform over rotations (Mezzadri 2007)
    lengths = torch.randn(blocks, dim, dim, **options).norm(dim=-1)
    return (q.mT * lengths[..., None]).flatten(0, 1)[:count].float()
