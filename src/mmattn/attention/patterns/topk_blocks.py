"""The blocks of keys with the best mean scores.

Shape legend as in interface.py; N blocks of queries, M blocks of keys.

"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.patterns.blockwise import Blockwise, Table


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
    """The mean of the real tokens of each block, in float32 or wider."""
    b, m, size = blocks.token.shape
    index = blocks.token.view(b, 1, m * size, 1).expand(-1, x.shape[1], -1, x.shape[3])
    tokens = x.to(torch.promote_types(x.dtype, torch.float32)).gather(2, index).unflatten(2, (m, size))
    real = blocks.real[:, None, :, :, None]
    return (tokens * real).sum(dim=3) / real.sum(dim=3).clamp(min=1)
