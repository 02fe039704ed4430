"""Patterns whose unit is a block of neighbours in time: neighbouring, random, and best by their mean scores.

The real tokens of each segment, in the order of their times, are cut into blocks. What is chosen is a small matrix,
blocks of queries by blocks of keys; inside a chosen block attention is exact.

Shape legend as in interface.py; N blocks of queries, M blocks of keys, K chosen ones, b tokens of a block.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.order import precise, time_rank
from mmattn.attention.patterns.time_window import Sparse


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
        return self.real[..., 0]


def table(x: Float[Tensor, "B H L E"], geometry: Geometry, local: Bool[Tensor, "B L"], size: int) -> Table:
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
        """Which blocks of keys each block of queries reads. Those that do not exist are left out by who calls."""

    @abstractmethod
    def most(self, segments: int) -> int:
        """How many blocks of keys, of so many segments, a block of queries reads at most: by the settings alone."""

    def local(self, q, k, q_geometry, k_geometry, q_local, k_local) -> list[Blocks]:
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


class BigBird(Blockwise):
    """The blocks around the query's own, `random` others, and global tokens (Zaheer et al. 2020, Big Bird, section 2).

    In each segment of the keys: `past` blocks before the block at the same fraction, that one, and `future` after it.
    Which others are read depends on `seed` and the blocks' numbers alone, not on clip, batch, device or padding.
    """

    by_vectors = False
    reference = "Zaheer et al. 2020"
    time_cost = "Lq W D + Lq Lk / b^2"
    memory_cost = "(Lq + Lk) D + Lq W + Lq Lk / b^2"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        block: int,
        past: int,
        future: int,
        random: int,
        seed: int = 0,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, block, global_tokens, global_segments)
        if min(past, future, random) < 0:
            raise ValueError(f"past={past}, future={future}, random={random}: expected numbers of blocks, 0 or more")
        self.past = past
        self.future = future
        self.random = random
        self.seed = seed

    def chosen(self, q: Tensor, k: Tensor, queries: Table, keys: Table) -> Bool[Tensor, "B 1 N M"]:
        place = precise(2 * queries.number + 1) / (2 * queries.count.clamp(min=1))  # (B, N), a fraction
        at = (place[..., None] * keys.count[:, None] - 0.5).round()  # (B, N, M)
        apart = keys.number - at
        near = (apart >= -self.past) & (apart <= self.future)
        names = [queries.segment[:, None], queries.number[:, None], keys.segment, keys.number]
        drawn = scrambled(self.seed, *names).masked_fill(near | ~keys.exists[:, None], torch.iinfo(torch.int64).max)
        first = drawn.topk(min(self.random, drawn.shape[2]), dim=2, largest=False).indices
        return near.scatter(2, first, True)[:, None]

    def most(self, segments: int) -> int:
        return segments * (self.past + 1 + self.future) + self.random


def scrambled(*numbers: int | Int[Tensor, "*"]) -> Int[Tensor, "*"]:
    """Pseudo-random numbers of 62 bits, a function of `numbers` alone (the finaliser of splitmix64 after each)."""
    state: int | Tensor = 0
    for number in numbers:
        state = torch.as_tensor(state) if isinstance(state, int) else state
        number = torch.as_tensor(number, device=state.device) if isinstance(number, int) else number
        state = state.to(number.device) + number + 0x1E3779B97F4A7C15
        for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
            state = (state ^ ((state >> shift) & ((1 << (64 - shift)) - 1))) * factor
        state = state ^ ((state >> 31) & ((1 << 33) - 1))
    assert isinstance(state, Tensor)
    return state & ((1 << 62) - 1)


class TopKBlocks(Blockwise):
    """The `chosen_blocks` blocks of keys whose mean key scores highest with the mean query of a block, for each head.

    (Lu et al. 2025, MoBA, section 2.2, eq. 5-6, with the queries pooled too as in Gao et al. 2024, SeerAttention; no
    gate is learned.) The choice carries no gradient; the attention within it is exact.
    """

    per_head = True
    reference = "Lu et al. 2025"
    time_cost = "Lq K b D + Lq Lk D / b^2"
    memory_cost = "(Lq + Lk) D + Lq K b + Lq Lk / b^2"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        block: int,
        chosen_blocks: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, block, global_tokens, global_segments)
        if chosen_blocks < 1:
            raise ValueError(f"chosen_blocks={chosen_blocks}: expected 1 or more")
        self.chosen_blocks = chosen_blocks

    def chosen(self, q: Tensor, k: Tensor, queries: Table, keys: Table) -> Bool[Tensor, "B H N M"]:
        scores = block_mean(q, queries) @ block_mean(k, keys).mT  # (B, H, N, M)
        scores = scores.masked_fill(~keys.exists[:, None, None], -math.inf)
        best = scores.topk(min(self.chosen_blocks, scores.shape[3]), dim=3).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(3, best, True)

    def most(self, segments: int) -> int:
        return self.chosen_blocks


def block_mean(x: Float[Tensor, "B H L E"], blocks: Table) -> Float[Tensor, "B H M E"]:
    """Of the real tokens of each block, in float32 or wider."""
    b, m, size = blocks.token.shape
    index = blocks.token.view(b, 1, m * size, 1).expand(-1, x.shape[1], -1, x.shape[3])
    tokens = x.to(torch.promote_types(x.dtype, torch.float32)).gather(2, index).unflatten(2, (m, size))
    real = blocks.real[:, None, :, :, None]
    return (tokens * real).sum(dim=3) / real.sum(dim=3).clamp(min=1)
