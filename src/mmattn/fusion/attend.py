"""Multi-head attention of tokens that have times over parts of tokens that have times.

Positions are rotary in seconds. Shape legend: B clips, L tokens, D channels, d channels of a head, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionFactory
from mmattn.attention.rotary import rotary_periods, rotate
from mmattn.fusion.parts import Part, geometry_of

LOCAL_SCORE = 6.0  # initial score between a query and a key of the same instant, in the time-local heads


class _MultiHead(nn.Module):
    """Heads, rotation, mechanism and output projection; what makes queries, keys and values is the subclass's."""

    periods: Tensor

    def __init__(self, dim: int, heads: int, attention: AttentionFactory) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} does not divide into {heads} heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.attention: Attention = attention(heads, dim // heads)
        self.register_buffer("periods", rotary_periods(dim // heads), persistent=False)

    def _attend(
        self,
        queries: Sequence[Part],
        reads: Sequence[Part],
        k: Float[Tensor, "B Lk D"],
        v: Float[Tensor, "B Lk D"],
        stats: frozenset[str],
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        asks, told = geometry_of(queries), geometry_of(reads)
        assert asks.time is not None and told.time is not None
        values = torch.cat([tokens.values for _, tokens in queries], dim=1)
        result = self.attention(
            rotate(self._split(self.query(values)), asks.time, self.periods),
            rotate(self._split(k), told.time, self.periods),
            self._split(v),
            asks,
            told,
            stats & self.attention.supports,  # a layer reports what its mechanism defines
        )
        return self.out(result.out.transpose(1, 2).flatten(2)), result.stats

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L d"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ReadingAttention(_MultiHead):
    """Attention over one or more parts at once, under one softmax; each part has its own key and value projection.

    Half of the heads start time-local: their query and key biases are equal, so that rotation alone makes a query
    prefer keys of its own instant; the others start global. Both stay free to learn.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, reads: tuple[str, ...]) -> None:
        super().__init__(dim, heads, attention)
        self.keys = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        self.values = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        _start_time_local(heads, self.query, *self.keys.values())

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        k = torch.cat([self.keys[name](tokens.values) for name, tokens in reads], dim=1)
        v = torch.cat([self.values[name](tokens.values) for name, tokens in reads], dim=1)
        return self._attend(queries, reads, k, v, stats)


class MergedAttention(_MultiHead):
    """Attention over some parts at once, one set of weights for all of them.

    `time_local`: as in ReadingAttention. Not for learned tokens, which have no instant of their own.
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, time_local: bool = True) -> None:
        super().__init__(dim, heads, attention)
        self.key = nn.Linear(dim, dim, bias=time_local)  # without rotation a bias of all keys cancels in a softmax
        self.value = nn.Linear(dim, dim)
        if time_local:
            _start_time_local(heads, self.query, self.key)

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        values = torch.cat([tokens.values for _, tokens in reads], dim=1)
        return self._attend(queries, reads, self.key(values), self.value(values), stats)


def _start_time_local(heads: int, *projections: nn.Module) -> None:
    """Give queries and keys the biases by which half of the heads prefer their own instant."""
    for linear in projections:
        assert isinstance(linear, nn.Linear)
        head_dim = linear.out_features // heads
        size = math.sqrt(LOCAL_SCORE * math.sqrt(head_dim) / (head_dim // 2))
        bias = torch.zeros(heads, head_dim)
        bias[: heads // 2, : head_dim // 2] = size  # the first channel of each rotated pair
        with torch.no_grad():
            linear.bias.copy_(bias.flatten())
