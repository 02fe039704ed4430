"""Exact attention as a Pattern (which pairs) x a Score (how alike) x a Normaliser (scores to weights).

The backend follows from the configuration, the device and the requested statistics. It is logged, and never falls back
to dense silently:
- "sdpa": PyTorch's own kernel; all pairs, softmax, no statistics. Clips of different lengths run one by one on a CPU.
- "merge": all pairs, softmax, with mass (and gradients of it) by log-sum-exp.
- "blocks": the pattern's pairs gathered into blocks; softmax, with or without statistics.
- "masked": a window over few tokens as a mask of all pairs, which is faster there than gathering blocks.
- "flex": patterns with one window for each query, on CUDA, by FlexAttention.
- "explicit": another normaliser than softmax, on chunks of scores that are not kept for the backward.

Where scores fall with time (positions/alibi.py), "merge", "masked" and "blocks" add that to the scores (timed.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmattn.attention.exact.backends import explicit, flex, flex_check, masked, ragged, sdpa, timed
from mmattn.attention.exact.backends.passes import Result
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.interface import (
    STATS,
    Attention,
    AttentionOutput,
    Blocks,
    DotProduct,
    Geometry,
    Normaliser,
    Pattern,
    Score,
)
from mmattn.attention.patterns import plans
from mmattn.attention.patterns.sparse import Windowed
from mmattn.attention.statistics import key_times

log = logging.getLogger(__name__)
Reader = Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Result]  # q, k, v and segments to what attend gives


class ExactAttention(Attention):
    """softmax(q.k / sqrt(D)) over all real keys (Vaswani et al. 2017, eq. 1), or with any part replaced.

    All pairs cost O(Lq Lk D) time and O(Lq D) memory; a pattern costs by the pairs of its blocks. `cudnn`: let cuDNN
    run masked dense attention on CUDA; it is faster, but some of its versions give wrong gradients with a mask.
    """

    exact = True
    supports = STATS

    def __init__(
        self,
        heads: int,
        head_dim: int,
        pattern: Callable[[int, int], Pattern] | None = None,
        score: Callable[[int, int], Score] | None = None,
        normaliser: Callable[[int, int], Normaliser] | None = None,
        cudnn: bool = False,
    ) -> None:
        super().__init__(heads, head_dim)
        self.pattern = pattern(heads, head_dim) if pattern else None
        self.score = (score or DotProduct)(heads, head_dim)
        self.normaliser = normaliser(heads, head_dim) if normaliser else None
        if self.pattern is not None and self.pattern.merges and self.normaliser is not None:
            pattern_name, name = type(self.pattern).__name__, type(self.normaliser).__name__
            raise ValueError(
                f"{pattern_name} merges softmaxes over its parts, which {name} does not allow; leave the normaliser out"
            )
        self.time_cost = self.pattern.time_cost if self.pattern else "Lq Lk D"
        self.memory_cost = self.pattern.memory_cost if self.pattern else "(Lq + Lk) D"
        special: list[Pattern | Normaliser | Score] = [
            part for part in (self.pattern, self.normaliser) if part is not None
        ]
        if not special or not isinstance(self.score, DotProduct):
            special.append(self.score)
        self.reference = ", ".join(part.reference for part in special)
        self.cudnn = cudnn
        self._range_s: tuple[float, float] | None = None  # over how many seconds scores fall, if they do
        self._backend = ""
        self._pattern = "" if self.pattern is None else plans.register(self.pattern)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if self.pattern is not None:  # in another process, perhaps
            plans.register(self.pattern)

    def lower_by_distance(self, shortest_s: float, longest_s: float) -> None:
        self._range_s = shortest_s, longest_s
        if self.pattern is not None and self.pattern.merges:
            self.supports = STATS - {"entropy"}  # it needs the scores, which no part has all of

    def _plan(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[Blocks] | None:
        if self.pattern is None:
            return None
        return plans.plan(self.pattern, self._pattern, q, k, q_geometry, k_geometry)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        segments = k_geometry.lengths(k.shape[2])
        given = v.dtype
        q, k, scale = self.score(q, k)
        dtype = torch.promote_types(q.dtype, v.dtype)  # a score may have widened its part
        if self._range_s is not None:
            dtype = torch.promote_types(dtype, torch.float32)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        if self.normaliser is None and not (self._range_s and "entropy" in stats):
            found = self._softmax(q, k, v, q_geometry, k_geometry, segments, scale, stats)
        else:
            self._resolved("explicit", q)
            parts, weigh = self._plan(q, k, q_geometry, k_geometry), self.normaliser or explicit.softmax
            sides = self._timed(q, q_geometry), self._timed(k, k_geometry)
            found = explicit.attend(*sides, v, k_geometry, parts, segments, scale, weigh, stats, self._has_time)
        return replace(found, out=found.out.to(given)) if self._has_time else found

    def _softmax(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        segments: tuple[int, ...],
        scale: float,
        stats: frozenset[str],
    ) -> AttentionOutput:
        keep = k_geometry.keep
        of_q, of_k = self._timed(q, q_geometry), self._timed(k, k_geometry)
        measured: dict[str, Tensor] = {}
        if "weights" in stats:
            parts = self._plan(q, k, q_geometry, k_geometry)
            measured["weights"] = explicit.matrix(of_q, of_k, keep, parts, scale, explicit.softmax, self._has_time)
        if not self._has_time and not stats & {"mass", "entropy", "mean_time"}:
            out = self._by_pytorch(q, k, v, q_geometry, k_geometry, scale)
            if out is not None:
                return AttentionOutput(out, measured)
        read = self._reader(q, k, q_geometry, k_geometry, scale)
        if stats & {"entropy", "mean_time"}:
            measured |= _moments(read, of_q, of_k, k_geometry, scale, stats)
        out, mass, _ = read(of_q, of_k, v, segments if "mass" in stats else (k.shape[2],))
        if "mass" in stats:
            measured["mass"] = mass
        return AttentionOutput(out, measured)

    @property
    def _has_time(self) -> bool:
        return self._range_s is not None

    def _timed(self, x: Tensor, geometry: Geometry) -> Tensor:
        return x if self._range_s is None else timed.with_time(x, geometry, self._range_s)

    def _by_pytorch(
        self, q: Tensor, k: Tensor, v: Tensor, q_geometry: Geometry, k_geometry: Geometry, scale: float
    ) -> Tensor | None:
        """The output alone by PyTorch's own kernel, where that is right and quick; None where not."""
        keep, kind = k_geometry.keep, q.device.type
        if self.pattern is None and sdpa.trusted(kind, q.dtype, keep is not None, self.cudnn):
            self._resolved("sdpa", q)
            if ragged.possible(q, k, k_geometry) and sdpa.trusted(kind, q.dtype, False, self.cudnn):
                sides = q, k, q_geometry, k_geometry
                of_clips = plans.once(("ragged",), q_geometry, k_geometry, lambda: ragged.places(*sides))
                if of_clips is not None:
                    return ragged.attend(q, k, v, of_clips, scale)
            return sdpa.attend(q, k, v, keep, scale, self.cudnn)
        if self._windowed(q_geometry, k_geometry) and masked.cheaper(q, k) and sdpa.trusted_with_pairs(kind, q.dtype):
            self._resolved("masked", q)
            pairs = self._planned("masked", q, k, q_geometry, k_geometry)
            return sdpa.attend_pairs(q, k, v, pairs, scale)
        return None

    def _windowed(self, q_geometry: Geometry, k_geometry: Geometry) -> bool:
        """Whether every query reads a window of its own; no window binds what is exempt."""
        return isinstance(self.pattern, Windowed) and not (q_geometry.all_exempt or k_geometry.all_exempt)

    def _reader(self, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry, scale: float) -> Reader:
        """What attends under this pattern: planned once, for the output and for what is measured."""
        has_time = self._has_time
        if self.pattern is None:
            self._resolved("merge", q)
            return lambda q, k, v, segments: attend(q, k, v, k_geometry.keep, None, segments, scale, has_time)
        windowed = self._windowed(q_geometry, k_geometry)
        made: dict[str, Any] = {}  # by the values' width, one pattern may be read by two backends

        def planned(backend: str) -> Any:
            self._resolved(backend, q)
            if backend not in made:
                made[backend] = self._planned(backend, q, k, q_geometry, k_geometry)
            return made[backend]

        def read(q_: Tensor, k_: Tensor, v: Tensor, segments: tuple[int, ...]) -> Result:
            if windowed and not has_time and flex_check.usable(q_, k_, v):  # for each type and width of values
                return flex.attend(q_, k_, v, planned("flex"), scale)
            if windowed and masked.cheaper(q, k):
                return attend(q_, k_, v, planned("masked"), None, segments, scale, has_time)
            return attend(q_, k_, v, k_geometry.keep, planned("blocks"), segments, scale, has_time)

        return read

    def _planned(self, backend: str, q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> Any:
        if backend == "blocks":
            return self._plan(q, k, q_geometry, k_geometry)
        make: Callable[..., Any] = {"flex": flex.plan, "masked": masked.pairs}[backend]
        key = self._pattern, backend
        return plans.once(key, q_geometry, k_geometry, lambda: make(self.pattern, q, k, q_geometry, k_geometry))

    def _resolved(self, backend: str, q: Tensor) -> None:
        if not torch.compiler.is_compiling() and backend != self._backend:  # a logger breaks the graph
            self._backend = backend
            names = [type(part).__name__ for part in (self.pattern, self.score, self.normaliser) if part is not None]
            log.info("attention of %s on %s in %s: %s", " x ".join(names), q.device, q.dtype, backend)


def _moments(
    read: Reader, q: Tensor, k: Tensor, k_geometry: Geometry, scale: float, stats: frozenset[str]
) -> dict[str, Tensor]:
    """Entropy and mean attended time from expectations under the weights, by one more pass with other values.

    -sum_k w_k log w_k = lse - scale q . sum_k w_k k: the matrix of weights is never made.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(wide), k.to(wide)
    values = [k] if "entropy" in stats else []
    if "mean_time" in stats:
        values.append(key_times(k_geometry)[:, None, :, None].to(wide).expand(-1, k.shape[1], -1, -1))
    mean, _, lse = read(q, k, torch.cat(values, dim=-1), (k.shape[2],))
    found = {}
    if "entropy" in stats:
        entropy = lse - scale * (q * mean[..., : q.shape[3]]).sum(dim=-1)
        found["entropy"] = torch.where(lse.isneginf(), 0.0, entropy).clamp(min=0.0)
    if "mean_time" in stats:
        found["mean_time"] = mean[..., -1]
    return found
