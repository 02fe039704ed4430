"""Which pairs of queries and keys are read, by time or by place.

A place is a rank: the real tokens of a segment, counted in the order of their times (as given, without times). Where
queries and keys are of other numbers, a query stands at the same fraction of each segment of the keys. So padding, its
amount and place, and the order in which tokens are handed over change nothing.

Shape legend as in interface.py; Ls keys of one segment.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry, Pattern
from mmattn.attention.order import real, time_rank
from mmattn.attention.windows import Window, also_reading, reading_all, window_blocks

EDGE_S = 5e-4  # time windows are this much wider on both sides: the rounding of float32 times decides nothing


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

    Global are the first `global_tokens` real tokens in time of the first segment, on either side, and all tokens of
    `global_segments` (names of segments): those without an instant of their own, such as latents.
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

    def plan(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[Blocks]:
        sides = self.sides(q, k, q_geometry, k_geometry)
        parts = self.local(q, k, q_geometry, k_geometry, sides.q_local, sides.k_local)
        heads = q.shape[1] if parts[0].per_head else 1
        if sides.k_global is not None:
            flags = sides.k_global.repeat_interleave(heads, dim=0)
            every = next((i for i, part in enumerate(parts) if i and not part.beside), len(parts))
            parts[:every] = [also_reading(part, flags, q.shape[2]) for part in parts[:every]]
        if sides.q_global is not None:
            flags, keep = (x.repeat_interleave(heads, dim=0) for x in (sides.q_global, sides.k_keep))
            parts.append(replace(reading_all(flags, keep), per_head=parts[0].per_head, beside=True))
        return parts

    def sides(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> Sides:
        q_keep, k_keep = real(q_geometry, q), real(k_geometry, k)
        q_global, k_global = self._global(q_geometry, q_keep), self._global(k_geometry, k_keep)
        q_local = q_keep if q_global is None else q_keep & ~q_global
        k_local = k_keep if k_global is None else k_keep & ~k_global
        return Sides(q_local, k_local, q_global, k_global, k_keep)

    def _global(self, geometry: Geometry, keep: Tensor) -> Bool[Tensor, "B L"] | None:
        if not self.global_tokens and not any(name in self.global_segments for name, _ in geometry.segments):
            return None
        named = [name in self.global_segments for name, count in geometry.segments for _ in range(count)]
        first = slice(0, geometry.lengths(keep.shape[1])[0])
        time = None if geometry.time is None else geometry.time[:, first]
        flags = torch.tensor(named or [False] * keep.shape[1], device=keep.device).repeat(len(keep), 1)
        flags[:, first] |= time_rank(Geometry(keep[:, first], time), keep[:, None, first, None]) < self.global_tokens
        return flags & keep


class Windowed(Sparse):
    """One window for each query: on CUDA FlexAttention runs these without gathering anything (flex.py)."""

    @abstractmethod
    def windows(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Bool[Tensor, "B Lq"],
        k_local: Bool[Tensor, "B Lk"],
    ) -> tuple[Float[Tensor, "B Lq"], list[Window]]:
        """Positions of the queries, and a window for each segment; +inf where not local."""

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        return window_blocks(*self.windows(q, k, q_geometry, k_geometry, q_local, k_local))


class TimeWindow(Windowed):
    """A query at time t reads the keys of [t - past_s, t + future_s], whatever the rates of the streams.

    future_s 0 is causal; .inf is no limit. A query whose window holds no real key gives 0. Tokens need not be in the
    order of time. Both sides need times.
    """

    reference = "mmattn"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past_s: float,
        future_s: float,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if not (past_s >= 0 and future_s >= 0):
            raise ValueError(f"past_s={past_s}, future_s={future_s}: expected seconds, 0 or more")
        self.past_s = past_s
        self.future_s = future_s

    def windows(self, q, k, q_geometry, k_geometry, q_local, k_local) -> tuple[Tensor, list[Window]]:
        if q_geometry.time is None or k_geometry.time is None:
            raise ValueError("a time window needs the times of queries and keys")
        time = q_geometry.time.double()
        position = k_geometry.time.double().masked_fill(~k_local, math.inf)
        low, high = time - self.past_s - EDGE_S, time + self.future_s + EDGE_S
        windows = [Window(low, high, part) for part in position.split(k_geometry.lengths(k.shape[2]), dim=1)]
        return time.masked_fill(~q_local, math.inf), windows


class SlidingWindow(Windowed):
    """A query at place i reads the keys of the places i - past ... i + future of each segment.

    Places are rounded where segments differ in number. (Beltagy et al. 2020, Longformer, section 3.1; with global
    tokens, its global + local attention.)
    """

    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0:
            raise ValueError(f"past={past}, future={future}: expected numbers of tokens, 0 or more")
        self.past = past
        self.future = future

    def windows(self, q, k, q_geometry, k_geometry, q_local, k_local) -> tuple[Tensor, list[Window]]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        windows = [
            Window(at - self.past, at + self.future, key) for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        return places.query.masked_fill(~q_local, math.inf), windows


class DilatedWindow(Sparse):
    """A sliding window over every `dilation`-th place: those j for which i - j is a multiple of it.

    `past` and `future` count the keys that are read. (Beltagy et al. 2020, Longformer, section 3.1.)
    """

    merges = True
    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        dilation: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0 or dilation < 1:
            raise ValueError(f"past={past}, future={future}, dilation={dilation}: expected 0, 0 and 1 or more")
        self.past = past * dilation
        self.future = future * dilation
        self.dilation = dilation

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        far = float(k.shape[2] + self.past + self.future)  # sorted by residue first, a window holds one residue only
        parts = []
        for segment, (at, key) in enumerate(zip(places.aligned, places.keys, strict=True)):
            at = at + far * (at % self.dilation)
            key = key + far * (key % self.dilation).nan_to_num(0.0)
            windows = places.only(segment, Window(at - self.past, at + self.future, key))
            parts += window_blocks(at.masked_fill(~q_local, math.inf), windows)
        return parts


class Strided(Sparse):
    """A query at place i reads the `stride` places before and after it, and all those of its residue modulo `stride`.

    (Child et al. 2019, Sparse Transformer, section 4.3, strided; in both directions, both sets under one softmax.)
    """

    merges = True
    reference = "Child et al. 2019"
    time_cost = "Lq (stride + Lk / stride) D"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        stride: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if stride < 1:
            raise ValueError(f"stride={stride}: expected 1 or more")
        self.stride = stride

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        near = [
            Window(at - self.stride, at + self.stride, key) for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        parts = window_blocks(places.query.masked_fill(~q_local, math.inf), near)
        for segment, (at, key) in enumerate(zip(places.aligned, places.keys, strict=True)):
            residue, key_residue = at % self.stride, (key % self.stride).nan_to_num(math.inf)
            windows = places.only(segment, Window(residue, residue, key_residue))
            for part in window_blocks(residue.masked_fill(~q_local, math.inf), windows):
                # What it has read in its window a query does not read again in its column.
                apart = (_of(at, part.query)[..., None] - _of(torch.cat(places.keys, 1), part.key)[:, None]).abs()
                parts.append(replace(part, mask=part.mask & (apart > self.stride)))
        return parts


class Places:
    """Places of the queries, of each segment's keys (+inf where not local), and of the queries among those."""

    def __init__(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry, k_local: Tensor) -> None:
        self.lengths = k_geometry.lengths(k.shape[2])
        query, of_all = ranks(q, q_geometry)
        self.query: Float[Tensor, "B Lq"] = torch.cat(query, dim=1)
        keys, counts = ranks(k, k_geometry)
        local = k_local.split(self.lengths, dim=1)
        self.keys = [key.masked_fill(~kept, math.inf) for key, kept in zip(keys, local, strict=True)]
        doubled = 2 * self.query + 1
        total = torch.cat([n.expand_as(part) for n, part in zip(of_all, query, strict=True)], dim=1).clamp(min=1)
        # (i + 1/2) / n is the fraction; exactly i again where the numbers are equal
        self.aligned = [(doubled * n / (2 * total) - 0.5).round() for n in counts]

    def only(self, segment: int, window: Window) -> list[Window]:
        """This window of a segment, and nothing of the others."""
        nothing = [Window(window.low, window.high, torch.full_like(key, math.inf)) for key in self.keys]
        return [window if i == segment else none for i, none in enumerate(nothing)]


def ranks(x: Tensor, geometry: Geometry) -> tuple[list[Float[Tensor, "B Ls"]], list[Float[Tensor, "B 1"]]]:
    """The place of each token in its segment, and how many real ones the segment has."""
    lengths = geometry.lengths(x.shape[2])
    keeps = real(geometry, x).split(lengths, dim=1)
    times = [None] * len(lengths) if geometry.time is None else geometry.time.split(lengths, dim=1)
    parts = zip(x.split(lengths, dim=2), keeps, times, strict=True)
    places = [time_rank(Geometry(keep, time), part).double() for part, keep, time in parts]
    return places, [keep.sum(dim=1, keepdim=True).double() for keep in keeps]


def _of(values: Float[Tensor, "B L"], rows: Tensor) -> Tensor:
    return values.flatten()[rows.clamp(max=values.numel() - 1)]
