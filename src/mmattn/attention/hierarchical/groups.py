"""Groups of tokens and their means: landmarks, coarse tokens, merged tokens.

Shape legend as in interface.py; N groups; L tokens of either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.order import by_segment, time_rank


@dataclass(frozen=True)
class Groups:
    """Which group each token is in (`index` = `count` for none), and how many tokens each group has."""

    index: Int[Tensor, "B L"]
    count: int
    sizes: Float[Tensor, "B N"]

    @classmethod
    def of(cls, index: Int[Tensor, "B L"], count: int) -> Groups:
        """Groups from the group of each token; a token with `index` = `count` is in none."""
        sizes = torch.zeros(len(index), count + 1, device=index.device)
        sizes.scatter_add_(1, index, torch.ones_like(index, dtype=sizes.dtype))
        return cls(index, count, sizes[:, :count])

    def means(self, x: Float[Tensor, "B H L D"]) -> Float[Tensor, "B H N D"]:
        """The mean of each group's tokens; 0 for an empty group."""
        rows = x.transpose(1, 2).flatten(2)  # (B, L, H D)
        wide = torch.promote_types(x.dtype, torch.float32)
        offset = torch.arange(len(rows), device=x.device)[:, None] * (self.count + 1)
        sums = torch.zeros(len(rows) * (self.count + 1), rows.shape[2], dtype=wide, device=x.device)
        sums = sums.index_add(0, (self.index + offset).flatten(), rows.flatten(0, 1).to(wide))
        sums = sums.unflatten(0, (len(rows), -1))[:, : self.count]
        means = sums / self.sizes.clamp(min=1.0)[..., None].to(wide)
        return means.to(x.dtype).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


def equal_groups(geometry: Geometry, like: Float[Tensor, "B H L D"], count: int) -> Groups:
    """The real tokens of each segment, in the order of time, cut into `count` groups of equal size (within one).

    Groups are numbered across the segments; a segment with fewer tokens than `count` leaves some of its groups empty.
    """
    indices, total = [], len(geometry.lengths(like.shape[2])) * count
    for number, (tokens, _, keep, time) in enumerate(by_segment(like, like, geometry)):
        rank = time_rank(Geometry(keep, time), tokens)
        group = rank * count // keep.sum(dim=1, keepdim=True).clamp(min=1) + number * count
        indices.append(torch.where(keep, group, total))
    return Groups.of(torch.cat(indices, dim=1), total)
