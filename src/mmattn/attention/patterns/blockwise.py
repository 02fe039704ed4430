"""Patterns whose unit is a block of neighbours in time.

The real tokens of each segment, in the order of their times, are cut into blocks. The choice is a small matrix, blocks
of queries by blocks of keys; inside a chosen block attention is exact.

Shape legend as in interface.py; N blocks of queries, M blocks of keys, K chosen ones, b tokens of a block.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.order import time_rank
from mmattn.attention.patterns.sparse import Sparse


@dataclass(frozen=True)
class Table:
    """Tokens cut into blocks, segment after segment."""

    token: Int[Tensor, "B M b"]  # index of a token in its clip; 0 where there is none
    real: Bool[Tensor, "B M b"]
    segment: Int[Tensor, " M"]
    number: Int[Tensor, " M"]  # of the block in its segment
    count: Int[Tensor, "B M"]  # blocks of that segment that hold a real token

    @property
    def exists(self) -> Bool[Tensor, "B M"]:
        """Blocks that hold a real token, which then comes first."""
        return self.real[..., 0]


def table(x: Float[Tensor, "B H L E"], geometry: Geometry, local: Bool[Tensor, "B L"], size: int) -> Table:
    """The `local` tokens of `x`, by segment and time, cut into blocks of `size`."""
    tokens, reals, segments, numbers, counts, offset = [], [], [], [], [], 0
    lengths = geometry.lengths(x.shape[2])
    for segment, length in enumerate(lengths):
        span = slice(offset, offset + length)
        time = None if geometry.time is None else geometry.time[:, span]
        order = time_rank(Geometry(local[:, span], time), x[:, :, span]).argsort(dim=1)
        kept = local[:, span].gather(1, order)
        token = pad(order + offset, (0, -length % size)).unflatten(1, (-1, size))
        real = pad(kept, (0, -length % size)).unflatten(1, (-1, size))
        tokens.append(torch.where(real, token, 0))
        reals.append(real)
        m = token.shape[1]
        segments.append(torch.full((m,), segment, device=x.device))
        numbers.append(torch.arange(m, device=x.device))
        counts.append(real[..., 0].sum(dim=1, keepdim=True).expand(-1, m))
        offset += length
    places = torch.cat(segments), torch.cat(numbers), torch.cat(counts, dim=1)
    return Table(torch.cat(tokens, dim=1), torch.cat(reals, dim=1), *places)


class Blockwise(Sparse):
    """Each block of queries reads some blocks of keys."""

    def __init__(
        self, heads: int, head_dim: int, block: int, global_tokens: int = 0, global_segments: Sequence[str] = ()
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if block < 1:
            raise ValueError(f"block={block}: expected 1 token or more")
        self.block = block

    @abstractmethod
    def chosen(self, q: Tensor, k: Tensor, queries: Table, keys: Table) -> Bool[Tensor, "B #H N M"]:
        """Which blocks of keys each block of queries reads. The caller removes blocks that do not exist."""

    @abstractmethod
    def most(self, segments: int) -> int:
        """The largest number of key blocks that a query block reads, for keys of `segments` segments."""

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        queries, keys = table(q, q_geometry, q_local, self.block), table(k, k_geometry, k_local, self.block)
        with torch.no_grad():
            chosen = self.chosen(q, k, queries, keys) & queries.exists[:, None, :, None] & keys.exists[:, None, None]
        b, h = chosen.shape[:2]
        most = min(self.most(max(1, len(k_geometry.segments))), chosen.shape[3])
        which = (~chosen).view(torch.uint8).argsort(dim=-1, stable=True)[..., :most]  # (B, h, N, K)
        picked = chosen.gather(3, which)
        each = torch.arange(b * h, device=q.device).view(b, h, 1, 1)
        query = torch.where(queries.real[:, None], queries.token[:, None] + q.shape[2] * each, b * h * q.shape[2])
        clip = torch.arange(b, device=q.device)[:, None, None, None]
        key = keys.token[clip, which] + k.shape[2] * each[..., None]  # (B, h, N, K, b)
        readable = keys.real[clip, which] & picked[..., None]
        mask = queries.real[:, None, :, :, None] & readable.flatten(3)[:, :, :, None]
        return [Blocks(query.flatten(0, 2), key.flatten(3).flatten(0, 2), mask.flatten(0, 2), self.per_head)]

    def beside(self, segments: int) -> list[bool]:
        return [False]
