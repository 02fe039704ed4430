"""Statistics of a mechanism that is linear in its values, computed from a few additional value columns.

An indicator column for each segment gives the mass on it, the keys' times give the mean attended time. Exact with
respect to the mechanism's own weights, differentiable, and without the Lq x Lk matrix.

Shape legend as in interface.py; C statistics columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.order import real

MAX_WEIGHTS = 1 << 26  # elements of an explicit matrix: 256 MiB in float32


def check_cap(q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]) -> None:
    """Raises ValueError where an explicit matrix of weights would be too large to hold."""
    size = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2]
    if size > MAX_WEIGHTS:
        raise ValueError(
            f"an explicit matrix of {size} weights is above the cap of {MAX_WEIGHTS}; request mass instead"
        )


def one_hot(segments: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "Lk S"]:
    """1 in the column of a key's segment. No number goes to the device for it, and none comes from there."""
    parts = [torch.zeros(length, len(segments), dtype=dtype, device=device) for length in segments]
    for number, part in enumerate(parts):
        part[:, number] = 1
    return torch.cat(parts)


def columns(k: Float[Tensor, "B H Lk D"], k_geometry: Geometry, stats: frozenset[str]) -> Float[Tensor, "B Lk C"]:
    """What `read_columns` needs to be attended, 0 for padding: a column for each segment, then the keys' times."""
    keep = real(k_geometry, k)
    wide = torch.promote_types(k.dtype, torch.float32)
    parts: list[Tensor] = []
    if "mass" in stats:
        parts.append(one_hot(k_geometry.lengths(k.shape[2]), wide, k.device).expand(len(keep), -1, -1))
    if "mean_time" in stats:
        parts.append(key_times(k_geometry).to(wide)[..., None])
    if not parts:
        return torch.zeros(*keep.shape, 0, dtype=wide, device=k.device)
    return torch.where(keep[..., None], torch.cat(parts, dim=-1), 0.0)


def read_columns(attended: Float[Tensor, "B H Lq C"], k_geometry: Geometry, stats: frozenset[str]) -> dict[str, Tensor]:
    """Attended columns to statistics by name."""
    measured: dict[str, Tensor] = {}
    if "mass" in stats:
        measured["mass"] = attended[..., : max(1, len(k_geometry.segments))]
    if "mean_time" in stats:
        measured["mean_time"] = attended[..., -1]
    return measured


def key_times(k_geometry: Geometry) -> Float[Tensor, "B Lk"]:
    """Seconds of the keys. Raises ValueError where the geometry has none."""
    if k_geometry.time is None:
        raise ValueError("stats mean_time needs the times of the keys: pass Geometry(time=...)")
    return k_geometry.time


def of_weights(weights: Float[Tensor, "B H Lq Lk"], k_geometry: Geometry, stats: frozenset[str]) -> dict[str, Tensor]:
    """Every statistic but the matrix itself, from an explicit (part of a) matrix in float32 or wider.

    `entropy` (B, H, Lq) is in nats.
    """
    measured: dict[str, Tensor] = {}
    if "mass" in stats:
        lengths = k_geometry.lengths(weights.shape[3])
        measured["mass"] = torch.stack([part.sum(dim=-1) for part in weights.split(lengths, dim=-1)], dim=-1)
    if "mean_time" in stats:
        time = torch.where(real(k_geometry, weights.mT), key_times(k_geometry), 0.0)
        measured["mean_time"] = (weights @ time[:, None, :, None].to(weights.dtype))[..., 0]
    if "entropy" in stats:
        positive = torch.where(weights > 0, weights, 1.0)  # the slope of w log w at 0 is infinite
        measured["entropy"] = -(positive * positive.log()).sum(dim=-1)
    return measured
