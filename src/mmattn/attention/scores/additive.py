"""Additive attention: a small network scores each pair (Bahdanau et al. 2015, section 3.1).

score_ij = w_h . tanh(q_i + k_j); weights_i = softmax_j(score_ij). The matrices that Bahdanau applies to both sides are
the projections that made q and k.

Shape legend as in interface.py; C queries of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.statistics import check_cap, of_weights

CHUNK_SCORES = 1 << 24  # scores held at once: 64 MiB in float32
TILE_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}  # channels of pairs at once; on a processor, what its cache holds


class AdditiveAttention(Attention):
    """Every query reads every real key. Longer inputs go in chunks, which are recomputed for the gradient."""

    exact = True
    supports = frozenset({"weights", "mass", "entropy", "mean_time"})
    time_cost = "Lq Lk D"
    memory_cost = "(Lq + Lk) D"
    reference = "Bahdanau et al. 2015"

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__(heads, head_dim)
        self.score = nn.Parameter(torch.randn(heads, head_dim) / math.sqrt(head_dim))

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        if "weights" in stats:
            check_cap(q, k)
        chunks = q.split(max(1, CHUNK_SCORES // max(1, k[..., 0].numel())), dim=2)
        if len(chunks) == 1:
            return AttentionOutput(*self._attend(q, k, v, k_geometry, stats))
        parts = [
            checkpoint(self._attend, rows, k, v, k_geometry, stats, use_reentrant=False, preserve_rng_state=False)
            for rows in chunks
        ]
        measured = {name: torch.cat([of_rows[name] for _, of_rows in parts], dim=2) for name in stats}
        return AttentionOutput(torch.cat([out for out, _ in parts], dim=2), measured)

    def _attend(
        self,
        q: Float[Tensor, "B H C D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> tuple[Float[Tensor, "B H C D"], dict[str, Tensor]]:
        with torch.autocast(q.device.type, enabled=False):
            scores = additive_scores(q, k, self.score)
            if k_geometry.keep is None:
                weights = torch.softmax(scores, dim=-1)
            else:
                real = k_geometry.keep[:, None, None, :]
                weights = torch.softmax(scores.masked_fill(~real, torch.finfo(scores.dtype).min), dim=-1) * real
            measured = of_weights(weights, k_geometry, stats)
            out = weights.to(v.dtype) @ v
        if "weights" in stats:
            measured["weights"] = weights
        return out, measured


def additive_scores(
    q: Float[Tensor, "B H C D"], k: Float[Tensor, "B H Lk D"], w: Float[Tensor, "H D"]
) -> Float[Tensor, "B H C Lk"]:
    """w_h . tanh(q_i + k_j) + sum w_h, in float32 or wider. Never holds more than a tile of (C, Lk, D)."""
    wide = torch.promote_types(q.dtype, torch.float32)
    # tanh(x) = 2 sigmoid(2 x) - 1, several times as fast on a processor; softmax does not see the sum of w.
    return _Scores.apply(2 * q.to(wide), 2 * k.to(wide), 2 * w.to(wide))  # type: ignore[return-value]


class _Scores(torch.autograd.Function):
    """sum_d w_d sigmoid(q_id + k_jd), tile by tile; the backward makes the tiles again."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, w: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(q, k, w)
        scores = q.new_empty(*q.shape[:3], k.shape[2])
        for rows, keys, tile in _tiles(q, k):
            scores[:, :, rows, keys] = (tile.flatten(2, 3) @ w[..., None]).view(*tile.shape[:4])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        q, k, w = ctx.saved_tensors
        d_q, d_k, d_w = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(w)
        for rows, keys, tile in _tiles(q, k):
            of_tile = slope[:, :, rows, keys]
            d_w += (of_tile.flatten(2)[:, :, None] @ tile.flatten(2, 3)).sum(dim=0)[:, 0]
            tile.addcmul_(tile, tile, value=-1).mul_(of_tile[..., None])  # sigmoid' = sigmoid - sigmoid^2
            d_q[:, :, rows] += tile.sum(dim=3)
            d_k[:, :, keys] += tile.sum(dim=2)
        return d_q * w[:, None], d_k * w[:, None], d_w


def _tiles(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, Float[Tensor, "B H c l D"]]]:
    """sigmoid(q_i + k_j) of some queries and some keys at a time."""
    pairs = max(1, TILE_ELEMENTS.get(q.device.type, 1 << 24) // max(1, q[:, :, 0].numel()))
    width = min(k.shape[2], pairs)
    height = max(1, pairs // width)
    for top in range(0, q.shape[2], height):
        for left in range(0, k.shape[2], width):
            rows, keys = slice(top, top + height), slice(left, left + width)
            yield rows, keys, torch.add(q[:, :, rows, None], k[:, :, None, keys]).sigmoid_()
