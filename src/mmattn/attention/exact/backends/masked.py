"""A window as a mask of all pairs, for problems so small that gathering blocks costs more than it saves.

Shape legend as in interface.py.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.sparse import Windowed

FEW_PAIRS = 1 << 17  # of a clip; from 512 x 512 on, blocks train faster on a processor (docs/benchmarks.md)


def cheaper(q: Tensor, k: Tensor) -> bool:
    """Whether a mask of all pairs is faster here than planning and gathering blocks, as measured on a CPU."""
    return q.device.type == "cpu" and q.shape[2] * k.shape[2] <= FEW_PAIRS


def pairs(
    pattern: Windowed, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry
) -> Bool[Tensor, "B 1 Lq Lk"]:
    """The pairs that the pattern reads."""
    sides = pattern.sides(q, k, q_geometry, k_geometry)
    position, windows = pattern.windows(q, k, q_geometry, k_geometry, sides.q_local, sides.k_local)
    at = torch.cat([window.position for window in windows], dim=1)  # +inf where a key is not local
    lengths = [window.position.shape[1] for window in windows]
    if all(window.low is windows[0].low for window in windows):  # one interval for all segments
        inside = (at[:, None] >= windows[0].low[..., None]) & (at[:, None] <= windows[0].high[..., None])
    else:
        parts = zip(at.split(lengths, dim=1), windows, strict=True)
        inside = torch.cat(
            [(own[:, None] >= w.low[..., None]) & (own[:, None] <= w.high[..., None]) for own, w in parts], dim=2
        )
    local = position.isfinite()
    inside &= local[..., None] & at.isfinite()[:, None]
    if sides.k_global is not None:
        inside |= (local if sides.q_global is None else local | sides.q_global)[..., None] & sides.k_global[:, None]
    if sides.q_global is not None:
        inside |= sides.q_global[..., None] & sides.k_keep[:, None]
    return inside[:, None]
