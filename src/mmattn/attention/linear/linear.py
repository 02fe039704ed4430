"""Linear attention with phi(x) = elu(x) + 1.

Shape legend as in interface.py; F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmattn.attention.interface import Geometry
from mmattn.attention.linear.features import FeatureAttention, masked


class LinearAttention(FeatureAttention):
    """phi(x) = elu(x) + 1, that is exp(x) below 0 and x + 1 above (Katharopoulos et al. 2020, eq. 7)."""

    exact = True
    reference = "Katharopoulos et al. 2020"

    def phi(self, q: Tensor, k: Tensor, k_geometry: Geometry) -> tuple[Tensor, Tensor]:
        return elu_plus_one(q), masked(elu_plus_one(k), k_geometry, 0.0)


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
