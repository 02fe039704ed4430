"""The strided pattern: neighbours by place, and every n-th token of the whole stream.

Shape legend as in interface.py; Ls keys of one segment.

"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.patterns.members import group_blocks, listed_members
from mmattn.attention.patterns.places import Places
from mmattn.attention.patterns.sparse import Sparse
from mmattn.attention.patterns.windows import KeyWindow, window_blocks


class Strided(Sparse):
    """A query at place i reads the `stride` places before and after it, and all those of its residue modulo `stride`.

    (Child et al. 2019, Sparse Transformer, section 4.3, strided; in both directions, both sets under one softmax.)
    """

    merges = True
    by_vectors = False
    reference = "Child et al. 2019"
    time_cost = "Lq (stride + Lk / stride) D"
    memory_cost = "(Lq + Lk) D + Lq (stride + Lk / stride)"

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

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        near = [
            KeyWindow(at - self.stride, at + self.stride, key)
            for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        parts = window_blocks(places.query.masked_fill(~q_local, math.inf), near)
        offset, every = 0, torch.cat(places.keys, dim=1)
        for at, key in zip(places.aligned, places.keys, strict=True):
            length = key.shape[1]
            column = group_blocks(
                torch.where(q_local, at % self.stride, self.stride).long(),
                *_columns(key, self.stride),
                lk=k.shape[2],
            )
            column = replace(column, key=column.key + offset)
            # What it has read in its window a query does not read again in its column.
            apart = (_of(at, column.query)[..., None] - _of(every, column.key)[:, None]).abs()
            parts.append(replace(column, mask=column.mask & (apart > self.stride)))
            offset += length
        return parts

    def beside(self, segments: int) -> list[bool]:
        return [False, True] + [False] * segments


def _columns(place: Float[Tensor, "B Ls"], stride: int) -> tuple[Tensor, Tensor]:
    """The keys of each residue modulo `stride`, as group_blocks wants them; a key at +inf is of none."""
    local = place.isfinite()
    at = torch.where(local, place, 0.0)
    residue = torch.where(local, at % stride, stride).long()
    return listed_members(residue, at.long() // stride, stride, -(-place.shape[1] // stride))


def _of(values: Float[Tensor, "B L"], rows: Tensor) -> Tensor:
    return values.flatten()[rows.clamp(max=values.numel() - 1)]
