"""Rotary position embedding on seconds (after Su et al. 2021, RoFormer), so that streams of any rate share one clock.

A pair of channels with period p turns by 2 pi t / p: scores then depend on time differences alone, and a query finds
the keys of its own instant whatever the rate of their stream.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.positions.interface import Position, check_seconds, geometric

SHORTEST_S, LONGEST_S = 0.2, 20.0


class Rotary(Position):
    """Periods from `shortest_s` to `longest_s` seconds, for any mechanism."""

    turns = True

    def __init__(self, heads: int, head_dim: int, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S) -> None:
        super().__init__(heads, head_dim)
        check_seconds("rotary", shortest_s, longest_s)
        rotary_periods(head_dim)
        self.range_s = shortest_s, longest_s

    def forward(self, x: Float[Tensor, "B H L D"], geometry: Geometry) -> Float[Tensor, "B H L D"]:
        assert geometry.time is not None
        return rotate(x, geometry.time, rotary_periods(x.shape[3], *self.range_s, device=x.device))


def rotary_periods(
    head_dim: int, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S, device: torch.device | None = None
) -> Float[Tensor, " P"]:
    """Periods in seconds of the head_dim // 2 channel pairs, spaced geometrically."""
    if head_dim % 2:
        raise ValueError(
            f"rotary embedding turns pairs of channels; head_dim {head_dim} is odd: set other dim or heads, or "
            "position=alibi"
        )
    return geometric(shortest_s, longest_s, head_dim // 2, device)


def rotate(
    x: Float[Tensor, "B H L D"], time: Float[Tensor, "B L"], periods: Float[Tensor, " P"]
) -> Float[Tensor, "B H L D"]:
    """Turn channel pairs (i, i + D/2) by their angle at `time` (seconds)."""
    angle = (2 * math.pi * time[:, None, :, None] / periods).to(torch.float32)  # (B, 1, L, P)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
