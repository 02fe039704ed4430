"""Low-rank attention: the n x n matrix through a fixed number of rows or columns.

Shape legend as in interface.py; R rank or landmarks of a segment, N those of all keys, M those of all queries.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmattn.attention.exact.exact import ExactAttention
from mmattn.attention.hierarchical.groups import Groups, equal_groups
from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import by_segment, precise, real, time_rank
from mmattn.attention.statistics import check_cap


class LinformerAttention(Attention):
    """Keys and values of each segment are projected to `rank` tokens, E k and F v (Wang et al. 2020, eq. 7).

    E and F have a column for each of `positions` places, spread over the real tokens of a segment in the order of time:
    token j of n has column (j + 1/2) positions / n, between two columns their mean by distance, times positions / n. A
    segment of `positions` tokens meets the paper's E; any other length, a stretched one; padding, none. Both are shared
    by heads and segments and begin as means over `rank` equal parts. Mass is that on the projected tokens of a segment.
    """

    exact = True
    supports = frozenset({"mass"})
    time_cost = "(Lq + Lk) R D"
    memory_cost = "(Lq + Lk) (R + D)"
    reference = "Wang et al. 2020"

    def __init__(self, heads: int, head_dim: int, rank: int, positions: int) -> None:
        super().__init__(heads, head_dim)
        if not 1 <= rank <= positions:
            raise ValueError(f"attention.rank={rank}, attention.positions={positions}: expected 1 <= rank <= positions")
        self.rank = rank
        means = nn.functional.one_hot(torch.arange(positions) * rank // positions, rank).float()
        means = (means / means.sum(dim=0)).mT.repeat(2, 1, 1)  # E and F, (2, R, P)
        self.projections = nn.Parameter(means + 0.1 / positions * torch.randn_like(means))
        self.attention = ExactAttention(heads, head_dim)

    def forward(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        self.check_stats(stats)
        if 0 in (q.shape[2], k.shape[2]):
            return AttentionOutput.nothing(q, k, v, k_geometry, stats)
        keys, values, kept = [], [], []
        for of_k, of_v, keep, time in by_segment(k, v, k_geometry):
            projected = self._project(of_k, of_v, Geometry(keep, time))
            keys.append(projected[0])
            values.append(projected[1])
            kept.append(keep.any(dim=1, keepdim=True).expand(-1, self.rank))
        segments = tuple((str(i), self.rank) for i in range(len(keys)))
        all_real = k_geometry.keep is None and min(k_geometry.lengths(k.shape[2])) > 0
        shorter = Geometry(None if all_real else torch.cat(kept, dim=1), None, segments)
        return self.attention(q, torch.cat(keys, dim=2), torch.cat(values, dim=2), q_geometry, shorter, stats)

    def _project(self, k: Tensor, v: Tensor, geometry: Geometry) -> Float[Tensor, "2 B H R D"]:
        """E k and F v. Tokens are first shared out among the `positions` places, then those are projected."""
        keep, positions = real(geometry, k), self.projections.shape[2]
        stretch = positions / precise(keep.sum(dim=1, keepdim=True).clamp(min=1))
        place = ((time_rank(geometry, k) + 0.5) * stretch - 0.5).clamp(0, positions - 1)
        low = place.floor()
        far = place - low
        low, clips = low.long(), positions * torch.arange(len(k), device=k.device)[:, None]
        rows = torch.cat([x.transpose(1, 2).flatten(2) for x in (k, v)], dim=2).flatten(0, 1)  # (B L, 2 H D)
        wide = torch.promote_types(k.dtype, torch.float32)
        shared = torch.zeros(len(k) * positions, rows.shape[1], dtype=wide, device=k.device)
        for at, part in ((low, 1 - far), ((low + 1).clamp(max=positions - 1), far)):
            part = (part * stretch * keep).flatten()[:, None].to(wide)
            shared = shared.index_add(0, (at + clips).flatten(), rows * part)
        shared = shared.view(len(k), positions, 2, -1).permute(2, 0, 1, 3)  # (2, B, P, H D)
        with torch.autocast(k.device.type, enabled=False):  # many shares of either sign: rounded once, at the end
            projected = (self.projections.to(wide)[:, None] @ shared).to(k.dtype)  # (2, B, R, H D)
        return projected.unflatten(3, (k.shape[1], -1)).transpose(2, 3)


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

    def forward(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        self.check_stats(stats)
        if 0 in (q.shape[2], k.shape[2]):
            return AttentionOutput.nothing(q, k, v, k_geometry, stats)
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
    """In float32 or wider; 0 where not kept, unless nothing is: then all alike."""
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
