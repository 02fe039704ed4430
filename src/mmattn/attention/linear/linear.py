"""Linear attention: exp(q k) becomes phi(q) . phi(k), so that the keys are summed once for all queries.

out_i = phi(q_i) . sum_j phi(k_j) v_j^T / phi(q_i) . sum_j phi(k_j)      (Katharopoulos et al. 2020, eq. 4 and 5)

Shape legend as in interface.py; F features.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.statistics import check_cap, columns, read_columns


class FeatureAttention(Attention):
    """Attention with weights phi(q_i) . phi(k_j), divided by their sum. What phi is, a subclass says."""

    supports = frozenset({"weights", "mass", "mean_time"})
    time_cost = "(Lq + Lk) F D"
    memory_cost = "(Lq + Lk) (F + D)"

    @abstractmethod
    def phi(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"], k_geometry: Geometry
    ) -> tuple[Float[Tensor, "B H Lq F"], Float[Tensor, "B H Lk F"]]:
        """phi(q) and phi(k), not negative, 0 for padded keys. A factor that all keys of a query share cancels."""

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
        if "weights" in stats:
            check_cap(q, k)
        width, wide = v.shape[3], torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(q.device.type, enabled=False):  # sums over all keys need their digits
            of_q, of_k = self.phi(q.to(wide), k.to(wide), k_geometry)
            more = pad(columns(k, k_geometry, stats), (0, 1), value=1.0)[:, None].expand(-1, q.shape[1], -1, -1)
            found = of_q @ (of_k.mT @ torch.cat([v.to(wide), more], dim=-1))  # (B, H, Lq, D + C + 1)
            total = torch.where(found[..., -1:] > 0, found[..., -1:], 1.0)  # no key: 0 / 1
            found = found[..., :-1] / total
            measured = read_columns(found[..., width:], k_geometry, stats)
            if "weights" in stats:
                measured["weights"] = of_q @ of_k.mT / total
        return AttentionOutput(found[..., :width].to(v.dtype), measured)


class LinearAttention(FeatureAttention):
    """phi(x) = elu(x) + 1, that is exp(x) below 0 and x + 1 above (Katharopoulos et al. 2020, eq. 7)."""

    exact = True
    reference = "Katharopoulos et al. 2020"

    def phi(self, q: Tensor, k: Tensor, k_geometry: Geometry) -> tuple[Tensor, Tensor]:
        return elu_plus_one(q), _masked(elu_plus_one(k), k_geometry, 0.0)


def _masked(of_k: Float[Tensor, "B H Lk F"], k_geometry: Geometry, value: float) -> Tensor:
    return of_k if k_geometry.keep is None else of_k.masked_fill(~k_geometry.keep[:, None, :, None], value)


def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1 with its relative precision below 0, where adding 1 last would round to 0."""
    return _EluPlusOne.apply(x)  # type: ignore[return-value]


class _EluPlusOne(torch.autograd.Function):
    """The slope is the value itself below 0, and 1 above: less to keep and to compute than of the parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        y = x.clamp(max=0).exp_().add_(x.clamp(min=0))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        return y.clamp(max=1).mul_(slope)


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
        of_k = _masked(of_k, k_geometry, -math.inf)
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
