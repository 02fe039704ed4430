"""Exact attention as a Pattern (which pairs) x a Score (how alike) x a Normaliser (scores to weights).

Backends, resolved from the configuration, the device and what is asked, logged, and never dense behind the back:
- "sdpa": PyTorch's own kernel; all pairs, softmax, nothing measured.
- "merge": all pairs, softmax, with mass (and gradients of it) by log-sum-exp.
- "blocks": the pattern's pairs gathered into blocks; softmax, measured or not.
- "explicit": another normaliser than softmax, on chunks of scores that are not kept for the backward.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention import explicit
from mmattn.attention.attend import attend
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
from mmattn.attention.measure import key_times

log = logging.getLogger(__name__)


class ExactAttention(Attention):
    """softmax(q.k / sqrt(D)) over all real keys (Vaswani et al. 2017, eq. 1), or any part of it exchanged.

    All pairs cost O(Lq Lk D) time and O(Lq D) memory; a pattern costs by the pairs of its blocks.
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
    ) -> None:
        super().__init__(heads, head_dim)
        self.pattern = pattern(heads, head_dim) if pattern else None
        self.score = (score or DotProduct)(heads, head_dim)
        self.normaliser = normaliser(heads, head_dim) if normaliser else None
        if self.pattern is not None and self.pattern.merges and self.normaliser is not None:
            pattern_name, name = type(self.pattern).__name__, type(self.normaliser).__name__
            raise ValueError(f"{pattern_name} merges softmaxes over its parts, which {name} does not allow")
        self.time_cost = self.pattern.time_cost if self.pattern else "Lq Lk D"
        self.memory_cost = self.pattern.memory_cost if self.pattern else "(Lq + Lk) D"
        special: list[Pattern | Normaliser | Score] = [
            part for part in (self.pattern, self.normaliser) if part is not None
        ]
        if not special or not isinstance(self.score, DotProduct):
            special.append(self.score)
        self.reference = ", ".join(part.reference for part in special)
        self._backend = ""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        self.check_stats(stats)
        segments = k_geometry.lengths(k.shape[2])
        if q.shape[2] == 0 or k.shape[2] == 0:
            return AttentionOutput.nothing(q, k, v, k_geometry, stats)
        q, k, scale = self.score(q, k)
        if q.dtype != v.dtype:  # a score may have widened its part
            dtype = torch.promote_types(q.dtype, v.dtype)
            q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        parts = None if self.pattern is None else self.pattern.plan(q, k, q_geometry, k_geometry)
        if self.normaliser is not None:
            self._resolved("explicit", q)
            return explicit.attend(q, k, v, k_geometry, parts, segments, scale, self.normaliser, stats)
        return self._softmax(q, k, v, k_geometry, parts, segments, scale, stats)

    def _softmax(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        k_geometry: Geometry,
        parts: list[Blocks] | None,
        segments: tuple[int, ...],
        scale: float,
        stats: frozenset[str],
    ) -> AttentionOutput:
        keep = k_geometry.keep
        measured: dict[str, Tensor] = {}
        if stats & {"entropy", "mean_time"}:
            measured |= self._moments(q, k, k_geometry, parts, scale, stats)
        if "weights" in stats:
            measured["weights"] = explicit.matrix(q, k, keep, parts, scale, explicit.softmax)
        if parts is None and "mass" not in stats:
            self._resolved("sdpa", q)
            mask = None if keep is None else keep[:, None, None, :]
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
            if keep is not None:  # backends differ on a query without any key; ours gives 0
                out = out.masked_fill(~keep.any(dim=1)[:, None, None, None], 0.0)
            return AttentionOutput(out, measured)
        self._resolved("merge" if parts is None else "blocks", q)
        split = segments if "mass" in stats else (k.shape[2],)
        out, mass, _ = attend(q, k, v, keep, parts, split, scale)
        if "mass" in stats:
            measured["mass"] = mass
        return AttentionOutput(out, measured)

    def _moments(self, q, k, k_geometry: Geometry, parts, scale: float, stats: frozenset[str]) -> dict[str, Tensor]:
        """Entropy and mean attended time from expectations under the weights, by one more pass with other values.

        -sum_k w_k log w_k = lse - scale q . sum_k w_k k: the matrix of weights is never made.
        """
        wide = torch.promote_types(q.dtype, torch.float32)
        q, k = q.to(wide), k.to(wide)
        time = None
        if "mean_time" in stats:
            time = key_times(k_geometry)[:, None, :, None].to(wide).expand(-1, k.shape[1], -1, -1)
        values = torch.cat([part for part in (k if "entropy" in stats else None, time) if part is not None], dim=-1)
        mean, _, lse = attend(q, k, values, k_geometry.keep, parts, (k.shape[2],), scale)
        found = {}
        if "entropy" in stats:
            entropy = lse - scale * (q * mean[..., : q.shape[3]]).sum(dim=-1)
            found["entropy"] = torch.where(lse.isneginf(), 0.0, entropy).clamp(min=0.0)
        if time is not None:
            found["mean_time"] = mean[..., -1]
        return found

    def _resolved(self, backend: str, q: Tensor) -> None:
        if backend != self._backend:
            self._backend = backend
            names = [type(part).__name__ for part in (self.pattern, self.score, self.normaliser) if part is not None]
            if not torch.compiler.is_compiling():  # a logger breaks the graph
                log.info("attention of %s on %s in %s: %s", " x ".join(names), q.device, q.dtype, backend)
