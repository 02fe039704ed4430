"""Nystrom attention: softmax attention estimated through landmarks.

Shape legend as in interface.py; R landmarks of a segment, N those of all keys, M those of all queries.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.hierarchical.groups import Groups, equal_groups
from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.statistics import check_cap


class NystromAttention(Attention):
    """softmax attention estimated through landmarks, means of equal parts of the tokens (Xiong et al. 2021, eq. 13).

    out = softmax(q k~^T) softmax(q~ k~^T)^+ softmax(q~ k^T) v, scores divided by sqrt(D). Landmarks are made of the
    real tokens of each segment in the order of time; the pseudo-inverse by `iterations` steps of their eq. 14. With as
    many landmarks as tokens it is softmax attention itself. The residual convolution of the paper is left out: queries
    and values need not be the same tokens. The weights so made may be negative and sum to 1 only about, the less the
    sharper the attention is: no mass is read from them.
    """

    exact = False
    supports = frozenset({"weights"})
    time_cost = "(Lq + Lk) R D + R^3"
    memory_cost = "(Lq + Lk) (R + D)"
    reference = "Xiong et al. 2021"

    def __init__(self, heads: int, head_dim: int, landmarks: int, iterations: int) -> None:
        super().__init__(heads, head_dim)
        if landmarks < 1 or iterations < 0:
            raise ValueError(
                f"attention.landmarks={landmarks}, attention.iterations={iterations}: expected 1, 0 or more"
            )
        self.landmarks = landmarks
        self.iterations = iterations

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
        of_q, of_k = equal_groups(q_geometry, q, self.landmarks), equal_groups(k_geometry, k, self.landmarks)
        wide = torch.promote_types(q.dtype, torch.float32)  # in float16 a score above 65504 is infinite
        with torch.autocast(q.device.type, enabled=False):
            return self._attend(q.to(wide) / math.sqrt(q.shape[-1]), k.to(wide), v, of_q, of_k, k_geometry, stats)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, of_q: Groups, of_k: Groups, k_geometry: Geometry, stats: frozenset[str]
    ) -> AttentionOutput:
        rows, landmarks = of_q.means(q), of_k.means(k)  # (B, H, M, D), (B, H, N, D)
        some = (
            None
            if k_geometry.keep is None and min(k_geometry.lengths(k.shape[2])) >= self.landmarks
            else of_k.sizes > 0
        )
        left = masked_softmax(q @ landmarks.mT, some)  # (B, H, Lq, N)
        middle = masked_softmax(rows @ landmarks.mT, some) * (of_q.sizes > 0)[:, None, :, None]
        right = masked_softmax(rows @ k.mT, k_geometry.keep)  # (B, H, M, Lk)
        inverse = pseudo_inverse(middle, self.iterations)
        read = inverse @ (right @ v.to(right.dtype))
        out = (left @ read).to(v.dtype)
        measured = {"weights": (left @ inverse) @ right} if "weights" in stats else {}
        if k_geometry.keep is not None:
            none = ~k_geometry.keep.any(dim=1)[:, None, None, None]
            out = out.masked_fill(none, 0.0)
            measured = {name: value.masked_fill(none, 0.0) for name, value in measured.items()}
        return AttentionOutput(out, measured)


def masked_softmax(scores: Float[Tensor, "B H M N"], keep: Bool[Tensor, "B N"] | None) -> Float[Tensor, "B H M N"]:
    """Softmax in float32 or wider; 0 where not kept. If nothing is kept, all weights are equal."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if keep is not None:
        wide = wide.masked_fill(~keep[:, None, None, :], torch.finfo(wide.dtype).min)
    return torch.softmax(wide, dim=-1)


def pseudo_inverse(matrix: Float[Tensor, "*B M N"], iterations: int) -> Float[Tensor, "*B N M"]:
    """Moore-Penrose, by the third-order iteration of Razavi et al. 2014 (Xiong et al. 2021, eq. 14 and 15)."""
    with torch.autocast(matrix.device.type, enabled=False):
        size = matrix.abs()
        norms = size.sum(dim=-1).amax(dim=-1) * size.sum(dim=-2).amax(dim=-1)
        inverse = matrix.mT / norms.clamp(min=torch.finfo(matrix.dtype).tiny)[..., None, None]
        eye = torch.eye(matrix.shape[-2], dtype=matrix.dtype, device=matrix.device)
        for _ in range(iterations):
            done = matrix @ inverse
            inverse = inverse @ (13 * eye - done @ (15 * eye - done @ (7 * eye - done))) / 4
        return inverse
