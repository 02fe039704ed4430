"""Statistics of a mechanism that is linear in its values: they are what it reads from a few more value columns.

An indicator column for each segment gives the mass on it, the keys' times give the mean attended time. Exact with
respect to the mechanism's own weights, differentiable, and without the Lq x Lk matrix.

Shape legend as in interface.py; C statistics columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.interface import Geometry

MAX_WEIGHTS = 1 << 26  # elements of an explicit matrix: 256 MiB in float32


def check_cap(q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]) -> None:
    """Raises ValueError where an explicit matrix of weights would be too large to hold."""
    size = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if size > MAX_WEIGHTS:
        raise ValueError(
            f"an explicit matrix of {size} weights is above the cap of {MAX_WEIGHTS}; ask for mass instead"
        )


def segment_lengths(k: Float[Tensor, "B H Lk D"], k_geometry: Geometry) -> list[int]:
    """How many keys each segment has. Raises ValueError where they do not add up to Lk."""
    lengths = [length for _, length in k_geometry.segments]
    if sum(lengths) != k.shape[2]:
        raise ValueError(f"segments {k_geometry.segments} hold {sum(lengths)} keys, but there are {k.shape[2]}")
    return lengths


def real_keys(k: Float[Tensor, "B H Lk D"], k_geometry: Geometry) -> Bool[Tensor, "B Lk"]:
    """The keep mask, made where there is none."""
    if k_geometry.keep is not None:
        return k_geometry.keep
    return torch.ones(k.shape[0], k.shape[2], dtype=torch.bool, device=k.device)


def columns(k: Float[Tensor, "B H Lk D"], k_geometry: Geometry, stats: frozenset[str]) -> Float[Tensor, "B Lk C"]:
    """What `read_columns` needs to be attended, 0 for padding: a column for each segment, then the keys' times."""
    keep = real_keys(k, k_geometry)
    wide = torch.promote_types(k.dtype, torch.float32)
    parts: list[Tensor] = []
    if "mass" in stats:
        lengths = torch.tensor(segment_lengths(k, k_geometry), device=k.device)
        segment = torch.repeat_interleave(torch.arange(len(lengths), device=k.device), lengths)
        parts.append(torch.nn.functional.one_hot(segment, len(lengths)).to(wide).expand(len(keep), -1, -1))
    if "mean_time" in stats:
        parts.append(key_times(k_geometry).to(wide)[..., None])
    if not parts:
        return torch.zeros(*keep.shape, 0, dtype=wide, device=k.device)
    return torch.where(keep[..., None], torch.cat(parts, dim=-1), 0.0)


def read_columns(attended: Float[Tensor, "B H Lq C"], k_geometry: Geometry, stats: frozenset[str]) -> dict[str, Tensor]:
    """Attended columns to statistics by name."""
    measured: dict[str, Tensor] = {}
    if "mass" in stats:
        measured["mass"] = attended[..., : len(k_geometry.segments)]
    if "mean_time" in stats:
        measured["mean_time"] = attended[..., -1]
    return measured


def key_times(k_geometry: Geometry) -> Float[Tensor, "B Lk"]:
    if k_geometry.time is None:
        raise ValueError("mean_time was asked for, but the keys have no times")
    return k_geometry.time


def of_weights(weights: Float[Tensor, "B H Lq Lk"], k_geometry: Geometry, stats: frozenset[str]) -> dict[str, Tensor]:
    """Every statistic but the matrix itself, from an explicit (part of a) matrix in float32 or wider.

    `entropy` (B, H, Lq) is in nats.
    """
    measured: dict[str, Tensor] = {}
    if "mass" in stats:
        lengths = segment_lengths(weights.mT, k_geometry)
        measured["mass"] = torch.stack([part.sum(dim=-1) for part in weights.split(lengths, dim=-1)], dim=-1)
    if "mean_time" in stats:
        time = torch.where(real_keys(weights.mT, k_geometry), key_times(k_geometry), 0.0)
        measured["mean_time"] = (weights @ time[:, None, :, None].to(weights.dtype))[..., 0]
    if "entropy" in stats:
        positive = torch.where(weights > 0, weights, 1.0)  # the slope of w log w at 0 is infinite
        measured["entropy"] = -(positive * positive.log()).sum(dim=-1)
    return measured
