"""Which pairs of queries and keys are read, by time or by place: the patterns that do not look at the vectors.

Shape legend as in interface.py; Ls keys of one segment.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry, Pattern
from mmattn.attention.windows import Window, reading_all, window_blocks

EDGE_S = 5e-4  # windows are this much wider on both sides, so that the rounding of float32 times decides nothing


class Windowed(Pattern):
    """A window around each query, and global tokens that all read and that read all.

    `global_tokens`: the first n real tokens of the queries and of the keys, or the name of a segment of either.
    """

    def __init__(self, heads: int, head_dim: int, global_tokens: int | str = 0) -> None:
        super().__init__(heads, head_dim)
        self.global_tokens = global_tokens

    @abstractmethod
    def windows(
        self, q_geometry: Geometry, k_geometry: Geometry, q_keep: Tensor, k_keep: Tensor
    ) -> tuple[Float[Tensor, "B Lq"], list[Window]]:
        """Positions of the queries and the window of each segment of the keys, both +inf where not kept."""

    def plan(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[Blocks]:
        q_keep, k_keep = _kept(q, q_geometry), _kept(k, k_geometry)
        everyone, reads_all = self._global(k_geometry, k_keep), self._global(q_geometry, q_keep)
        own_q = q_keep if reads_all is None else q_keep & ~reads_all
        own_k = k_keep if everyone is None else k_keep & ~everyone
        position, windows = self.windows(q_geometry, k_geometry, own_q, own_k)
        lengths = k_geometry.lengths(k.shape[2])
        if everyone is not None:
            split = everyone.split(lengths, dim=1)
            windows = [Window(w.low, w.high, w.position, part) for w, part in zip(windows, split, strict=True)]
        parts = [window_blocks(position, windows)]
        if reads_all is not None:
            parts.append(reading_all(reads_all, k_keep))
        return parts

    def _global(self, geometry: Geometry, keep: Tensor) -> Bool[Tensor, "B L"] | None:
        if not self.global_tokens:
            return None
        if isinstance(self.global_tokens, int):
            return keep & (keep.cumsum(dim=1) <= self.global_tokens)
        named = [name == self.global_tokens for name, count in geometry.segments for _ in range(count)]
        return keep & torch.tensor(named, device=keep.device) if any(named) else None


class TimeWindow(Windowed):
    """A query at time t reads the keys of [t - past_s, t + future_s], whatever the rates of the streams.

    future_s 0 is causal; .inf is no limit. A query whose window holds no real key gives 0. Tokens need not be in order
    of time. Both sides need times.
    """

    reference = "mmattn"

    def __init__(self, heads: int, head_dim: int, past_s: float, future_s: float, global_tokens: int | str = 0) -> None:
        super().__init__(heads, head_dim, global_tokens)
        if not (past_s >= 0 and future_s >= 0):
            raise ValueError(f"past_s={past_s}, future_s={future_s}: expected seconds, 0 or more")
        self.past_s = past_s
        self.future_s = future_s

    def windows(
        self, q_geometry: Geometry, k_geometry: Geometry, q_keep: Tensor, k_keep: Tensor
    ) -> tuple[Tensor, list[Window]]:
        if q_geometry.time is None or k_geometry.time is None:
            raise ValueError("a time window needs the times of queries and keys")
        time = q_geometry.time.double()
        position = k_geometry.time.double().masked_fill(~k_keep, math.inf)
        low, high = time - self.past_s - EDGE_S, time + self.future_s + EDGE_S
        parts = position.split(k_geometry.lengths(position.shape[1]), dim=1)
        return time.masked_fill(~q_keep, math.inf), [Window(low, high, part) for part in parts]


def _kept(x: Tensor, geometry: Geometry) -> Bool[Tensor, "B L"]:
    if geometry.keep is not None:
        return geometry.keep
    return x.new_ones(x.shape[0], x.shape[2], dtype=torch.bool)
