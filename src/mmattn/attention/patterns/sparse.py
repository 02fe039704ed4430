"""Patterns that read only some pairs, with global tokens.

Shape legend as in interface.py.

"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry, Pattern
from mmattn.attention.order import real, time_rank
from mmattn.attention.patterns.windows import KeyWindow, also_reading, reading_all, window_blocks


@dataclass(frozen=True)
class Sides:
    """Which tokens are real and not global, and which are global (None: none can be)."""

    q_local: Bool[Tensor, "B Lq"]
    k_local: Bool[Tensor, "B Lk"]
    q_global: Bool[Tensor, "B Lq"] | None
    k_global: Bool[Tensor, "B Lk"] | None
    k_keep: Bool[Tensor, "B Lk"]


class Sparse(Pattern):
    """Some pairs, and global tokens that all read and that read all.

    Global are the first `global_tokens` real tokens in time of the first segment, on either side, all tokens of
    `global_segments` (names of segments), and those that are exempt from order and windows.
    """

    def __init__(self, heads: int, head_dim: int, global_tokens: int = 0, global_segments: Sequence[str] = ()) -> None:
        super().__init__(heads, head_dim)
        self.global_tokens = global_tokens
        self.global_segments = frozenset(global_segments)

    @abstractmethod
    def local(
        self,
        q: Float[Tensor, "B H Lq E"],
        k: Float[Tensor, "B H Lk E"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Bool[Tensor, "B Lq"],
        k_local: Bool[Tensor, "B Lk"],
    ) -> list[Blocks]:
        """The pairs of local queries and local keys: those that are real and not global."""

    @abstractmethod
    def beside(self, segments: int) -> list[bool]:
        """For each part that `local` gives for `segments` segments of keys: its `beside` (see Blocks)."""

    def layout(self, q_geometry: Geometry, k_geometry: Geometry) -> list[bool] | None:
        if q_geometry.all_exempt or k_geometry.all_exempt:
            return None
        return self.beside(max(1, len(k_geometry.segments))) + [True] * self._has_global(q_geometry)

    def plan(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[Blocks] | None:
        if q_geometry.all_exempt or k_geometry.all_exempt:
            return None
        sides = self.sides(q, k, q_geometry, k_geometry)
        parts = self.local(q, k, q_geometry, k_geometry, sides.q_local, sides.k_local)
        heads = q.shape[1] if self.per_head else 1
        if sides.k_global is not None:
            flags, most = sides.k_global.repeat_interleave(heads, dim=0), self._most_global(k_geometry, k.shape[2])
            every = next((i for i, part in enumerate(parts) if i and not part.beside), len(parts))
            parts[:every] = [also_reading(part, flags, most, q.shape[2]) for part in parts[:every]]
        if sides.q_global is not None:
            flags, keep = (x.repeat_interleave(heads, dim=0) for x in (sides.q_global, sides.k_keep))
            whole = reading_all(flags, self._most_global(q_geometry, q.shape[2]), keep)
            parts.append(replace(whole, per_head=self.per_head, beside=True))
        return parts

    def sides(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> Sides:
        q_keep, k_keep = real(q_geometry, q), real(k_geometry, k)
        q_global, k_global = self._global(q_geometry, q_keep), self._global(k_geometry, k_keep)
        q_local = q_keep if q_global is None else q_keep & ~q_global
        k_local = k_keep if k_global is None else k_keep & ~k_global
        return Sides(q_local, k_local, q_global, k_global, k_keep)

    def _global(self, geometry: Geometry, keep: Tensor) -> Bool[Tensor, "B L"] | None:
        if not self._has_global(geometry):
            return None
        first = slice(0, geometry.lengths(keep.shape[1])[0])
        time = None if geometry.time is None else geometry.time[:, first]
        flags, offset = torch.zeros_like(keep), 0
        for name, count in geometry.segments:
            flags[:, offset : offset + count] = self._is_global(name, geometry)
            offset += count
        flags[:, first] |= time_rank(Geometry(keep[:, first], time), keep[:, None, first, None]) < self.global_tokens
        return flags & keep

    def _has_global(self, geometry: Geometry) -> bool:
        return self.global_tokens > 0 or any(self._is_global(name, geometry) for name, _ in geometry.segments)

    def _is_global(self, name: str, geometry: Geometry) -> bool:
        return name in self.global_segments or name in geometry.exempt

    def _most_global(self, geometry: Geometry, length: int) -> int:
        """How many global tokens a clip can have: a plan's size may not depend on how many are real."""
        named = sum(count for name, count in geometry.segments if self._is_global(name, geometry))
        return min(length, named + min(self.global_tokens, geometry.lengths(length)[0]))


class Windowed(Sparse):
    """One window for each query: on CUDA FlexAttention runs these without gathering anything (flex.py)."""

    by_vectors = False

    @abstractmethod
    def windows(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Bool[Tensor, "B Lq"],
        k_local: Bool[Tensor, "B Lk"],
    ) -> tuple[Float[Tensor, "B Lq"], list[KeyWindow]]:
        """Positions of the queries, and a window for each segment; +inf where not local."""

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        return window_blocks(*self.windows(q, k, q_geometry, k_geometry, q_local, k_local))

    def beside(self, segments: int) -> list[bool]:
        return [False, True]
