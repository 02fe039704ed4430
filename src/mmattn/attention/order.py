"""Tokens in the order of their times, for mechanisms to which order means something.

Shape legend: B clips, L tokens.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention.interface import Geometry


def real(geometry: Geometry, like: Float[Tensor, "B H L D"]) -> Bool[Tensor, "B L"]:
    """The keep mask; all True if there is none."""
    if geometry.keep is not None:
        return geometry.keep
    return torch.ones(like.shape[0], like.shape[2], dtype=torch.bool, device=like.device)


def times(geometry: Geometry, like: Float[Tensor, "B H L D"]) -> Float[Tensor, "B L"]:
    """Seconds; without a clock, tokens are spread evenly over one second."""
    if geometry.time is not None:
        return geometry.time
    length = like.shape[2]
    return ((torch.arange(length, device=like.device) + 0.5) / max(1, length)).expand(like.shape[0], -1)


def time_order(geometry: Geometry, like: Float[Tensor, "B H L D"]) -> Int[Tensor, "B L"]:
    """Indices of the tokens by time, exempt ones first, padding last; those of the same time stay as they are given."""
    keep, time, exempt = real(geometry, like), times(geometry, like), geometry.exempt_flags(like)
    if exempt is not None:
        time = time.masked_fill(exempt, -math.inf)
    return time.masked_fill(~keep, math.inf).argsort(dim=1, stable=True)


def time_rank(geometry: Geometry, like: Float[Tensor, "B H L D"]) -> Int[Tensor, "B L"]:
    """The place of each token in `time_order`."""
    order = time_order(geometry, like)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def by_segment(
    k: Float[Tensor, "B H Lk D"], v: Float[Tensor, "B H Lk D"], geometry: Geometry
) -> list[tuple[Tensor, Tensor, Bool[Tensor, "B Ls"], Float[Tensor, "B Ls"]]]:
    """Keys, values, keep and times of each segment."""
    lengths = geometry.lengths(k.shape[2])
    parts = (
        k.split(lengths, 2),
        v.split(lengths, 2),
        real(geometry, k).split(lengths, 1),
        times(geometry, k).split(lengths, 1),
    )
    return list(zip(*parts, strict=True))
