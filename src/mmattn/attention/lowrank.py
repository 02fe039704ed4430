"""Low-rank attention: the n x n matrix through a fixed number of rows or columns.

Shape legend as in interface.py; R rank or landmarks of a segment, N those of all keys, M those of all queries.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.exact import ExactAttention
from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.measure import check_cap
from mmattn.attention.order import by_segment, real, time_rank
from mmattn.attention.pool import equal_groups


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
        means = nn.functional.one_hot(torch.arange(positions) * rank // positions, rank).float()
        means = (means / means.sum(dim=0)).repeat(1, 2)  # (P, 2 R): E and F side by side, transposed
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
            of_keys, of_values = self._stretched(Geometry(keep, time), of_k).to(k.dtype).mT.chunk(2, dim=1)  # (B, R, L)
            keys.append(_project(of_keys, of_k))
            values.append(_project(of_values, of_v))
            kept.append(keep.any(dim=1, keepdim=True).expand(-1, of_keys.shape[1]))
        segments = tuple((str(i), part.shape[2]) for i, part in enumerate(keys))
        shorter = Geometry(torch.cat(kept, dim=1), None, segments)
        return self.attention(q, torch.cat(keys, dim=2), torch.cat(values, dim=2), q_geometry, shorter, stats)

    def _stretched(self, geometry: Geometry, like: Float[Tensor, "B H L D"]) -> Float[Tensor, "B L 2*R"]:
        """The columns of E and F that belong to the tokens, 0 for padding."""
        keep, positions = real(geometry, like), len(self.projections)
        stretch = positions / keep.sum(dim=1, keepdim=True).clamp(min=1).double()
        place = (time_rank(geometry, like) + 0.5) * stretch - 0.5
        place = place.clamp(0, positions - 1)
        low = place.floor().long()
        far = (place - low)[..., None].to(self.projections.dtype)
        columns = torch.lerp(self.projections[low], self.projections[(low + 1).clamp(max=positions - 1)], far)
        return columns * (keep * stretch)[..., None].to(columns.dtype)


def _project(matrix: Float[Tensor, "B R L"], x: Float[Tensor, "B H L D"]) -> Float[Tensor, "B H R D"]:
    """One product for all heads."""
    return (matrix @ x.transpose(1, 2).flatten(2)).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


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
        of_q, of_k = equal_groups(q_geometry, q, self.landmarks), equal_groups(k_geometry, k, self.landmarks)
        q = q / math.sqrt(q.shape[-1])
        rows, landmarks = of_q.means(q), of_k.means(k)  # (B, H, M, D), (B, H, N, D)
        some = (of_k.sizes > 0)[:, None, None]
        left = masked_softmax(q @ landmarks.mT, some)  # (B, H, Lq, N)
        middle = masked_softmax(rows @ landmarks.mT, some) * (of_q.sizes > 0)[:, None, :, None]
        right = masked_softmax(rows @ k.mT, real(k_geometry, k)[:, None, None])  # (B, H, M, Lk)
        left = left @ pseudo_inverse(middle, self.iterations)
        out = left.to(v.dtype) @ (right.to(v.dtype) @ v)
        measured: dict[str, Tensor] = {}
        if "weights" in stats:
            check_cap(q, k)
            measured["weights"] = left @ right
        return AttentionOutput(out, measured)


def masked_softmax(scores: Float[Tensor, "*B N"], mask: Tensor) -> Float[Tensor, "*B N"]:
    """In float32 or wider; 0 where not `mask`."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return torch.softmax(wide.masked_fill(~mask, torch.finfo(wide.dtype).min), dim=-1) * mask


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
