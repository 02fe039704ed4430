"""Linear attention: exp(q k) becomes phi(q) . phi(k), so that the keys are summed once for all queries.

out_i = phi(q_i) . sum_j phi(k_j) v_j^T / phi(q_i) . sum_j phi(k_j)      (Katharopoulos et al. 2020, eq. 4 and 5)

Shape legend as in interface.py; F features.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.measure import check_cap, columns, read_columns
from mmattn.attention.order import real


class FeatureAttention(Attention):
    """Attention with weights phi(q_i) . phi(k_j), divided by their sum. What phi is, a subclass says."""

    supports = frozenset({"weights", "mass", "mean_time"})
    time_cost = "(Lq + Lk) F D"
    memory_cost = "(Lq + Lk) (F + D)"

    @abstractmethod
    def phi(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"], k_geometry: Geometry
    ) -> tuple[Float[Tensor, "B H Lq F"], Float[Tensor, "B H Lk F"]]:
        """phi(q) and phi(k), not negative. A factor that is the same for all keys of a query cancels."""

    def forward(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        self.check_stats(stats)
        if 0 in (q.shape[2], k.shape[2]):
            return AttentionOutput.nothing(q, k, v, k_geometry, stats)
        of_q, of_k = self.phi(q, k, k_geometry)
        if k_geometry.keep is not None:
            of_k = of_k.masked_fill(~k_geometry.keep[:, None, :, None], 0.0)
        measured: dict[str, Tensor] = {}
        with torch.autocast(q.device.type, enabled=False):  # sums over all keys need their digits
            wide = torch.promote_types(q.dtype, torch.float32)
            sums = of_k.sum(dim=2, dtype=wide)[..., None]  # (B, H, F, 1)
            total = of_q.to(wide) @ sums
            total = torch.where(total > 0, total, 1.0)  # no key: 0 / 1
            if stats & {"mass", "mean_time"}:
                summed = of_k.to(wide).mT @ columns(k, k_geometry, stats)[:, None]  # (B, H, F, C)
                measured |= read_columns(of_q.to(wide) @ summed / total, k_geometry, stats)
            if "weights" in stats:
                check_cap(q, k)
                measured["weights"] = of_q.to(wide) @ of_k.to(wide).mT / total
        out = of_q @ (of_k.mT @ v) / total
        return AttentionOutput(out.to(v.dtype), measured)


class LinearAttention(FeatureAttention):
    """phi(x) = elu(x) + 1, that is exp(x) below 0 and x + 1 above (Katharopoulos et al. 2020, eq. 7)."""

    exact = True
    reference = "Katharopoulos et al. 2020"

    def phi(self, q: Tensor, k: Tensor, k_geometry: Geometry) -> tuple[Tensor, Tensor]:
        return elu_plus_one(q), elu_plus_one(k)


def elu_plus_one(x: Tensor) -> Tensor:
    """As a sum that keeps its relative precision below 0, where elu(x) + 1 would round to 0."""
    return x.clamp(max=0).exp() + x.clamp(min=0)


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
            directions = orthogonal_directions(len(directions), self.head_dim).to(directions)
        of_k = _log_features(k, directions)
        kept = real(k_geometry, k)[:, None, :, None]
        # The largest key feature of each direction moves to the query's side, where the row's largest cancels: both
        # are then at most 1, and the sum over all keys at least 1. The result does not change, so neither has a slope.
        with torch.no_grad():
            highest = of_k.masked_fill(~kept, -math.inf).amax(dim=2, keepdim=True)
            highest = torch.where(highest == -math.inf, 0.0, highest)  # (B, H, 1, F)
        of_q = _log_features(q, directions) + highest
        of_q = of_q - of_q.detach().amax(dim=-1, keepdim=True)
        return of_q.exp().to(q.dtype), (of_k - highest).masked_fill(~kept, -math.inf).exp().to(k.dtype)


def _log_features(x: Tensor, directions: Tensor) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32)) * x.shape[-1] ** -0.25
    with torch.autocast(x.device.type, enabled=False):
        return wide @ directions.to(wide.dtype).mT - wide.square().sum(dim=-1, keepdim=True) / 2


def orthogonal_directions(count: int, dim: int, generator: torch.Generator | None = None) -> Float[Tensor, "F D"]:
    """Gaussian vectors that are orthogonal to each other within each block of `dim`, of Gaussian vectors' lengths."""
    blocks = -(-count // dim)
    gaussian = torch.randn(blocks, dim, dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]  # makes q uniform over rotations (Mezzadri 2007)
    lengths = torch.randn(blocks, dim, dim, generator=generator, dtype=torch.float64).norm(dim=-1)
    return (q.mT * lengths[..., None]).flatten(0, 1)[:count].float()
