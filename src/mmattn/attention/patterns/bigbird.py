"""BigBird: neighbouring blocks, random blocks and global tokens.

Shape legend as in interface.py; N blocks of queries, M blocks of keys.

"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.attention.patterns.blockwise import Blockwise, Table
from mmattn.types import widest


class BigBird(Blockwise):
    """The blocks around the query's own, `random` others, and global tokens (Zaheer et al. 2020, Big Bird, section 2).

    In each segment of the keys: `past` blocks before the block at the same fraction, that one, and `future` after it.
    Which others are read depends only on `seed` and the numbers of the blocks, not on clip, batch, device or padding.
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
        place = widest(2 * queries.number + 1) / (2 * queries.count.clamp(min=1))  # (B, N), a fraction
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
