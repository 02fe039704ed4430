"""Multi-head attention of tokens that have times over parts of tokens that have times.

Shape legend: B clips, L tokens, D channels, d channels of a head, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import LEARNED, Part, concatenate, geometry_of

LOCAL_SCORE = 6.0  # initial score between a query and a key of the same instant, in the time-local heads


class _MultiHead(nn.Module):
    """Heads, position, mechanism and output projection; subclasses make queries, keys and values.

    `exempt`: parts to which neither order nor windows apply, in any mechanism.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        position: PositionFactory = Rotary,
        exempt: Iterable[str] = LEARNED,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} does not divide into {heads} heads")
        self.heads = heads
        self.exempt = frozenset(exempt)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.position = position(heads, dim // heads)
        self.attention: Attention = self.position.prepare(attention(heads, dim // heads))

    def _attend(
        self,
        queries: Sequence[Part],
        reads: Sequence[Part],
        q: Float[Tensor, "B Lq D"],
        k: Float[Tensor, "B Lk D"],
        v: Float[Tensor, "B Lk D"],
        stats: frozenset[str],
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        of_q, of_k = (geometry_of(parts, self.exempt) for parts in (queries, reads))
        result = self.attention(
            self.position(self._split(q), of_q),
            self.position(self._split(k), of_k),
            self._split(v),
            of_q,
            of_k,
            stats & self.attention.supports,  # a layer reports what its mechanism defines
        )
        return self.out_proj(result.out.transpose(1, 2).flatten(2)), result.stats

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L d"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class ReadingAttention(_MultiHead):
    """Attention over one or more parts at once, under one softmax; each part has its own key and value projection.

    Half of the heads start time-local: their query and key biases are equal, so that rotation alone makes a query
    prefer keys of its own instant; the others start global. Both stay free to learn. A position that does not turn
    queries and keys has no such start.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        reads: tuple[str, ...],
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__(dim, heads, attention, position)
        self.k_proj = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        self.v_proj = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        if self.position.turns:
            _start_time_local(heads, self.q_proj, *self.k_proj.values())

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        k = torch.cat([self.k_proj[name](tokens.values) for name, tokens in reads], dim=1)
        v = torch.cat([self.v_proj[name](tokens.values) for name, tokens in reads], dim=1)
        return self._attend(queries, reads, self.q_proj(concatenate(queries).values), k, v, stats)


class MergedAttention(_MultiHead):
    """Attention over some parts at once, one set of weights for all of them.

    `time_local`: as in ReadingAttention. Learned tokens, which have no instant of their own, go without those biases.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        time_local: bool = True,
        exempt: Iterable[str] = LEARNED,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__(dim, heads, attention, position, exempt)
        self.time_local = time_local = time_local and self.position.turns
        self.k_proj = nn.Linear(dim, dim, bias=time_local)  # without rotation a bias of all keys cancels in a softmax
        self.v_proj = nn.Linear(dim, dim)
        if time_local:
            _start_time_local(heads, self.q_proj, self.k_proj)

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B Lq D"], dict[str, Tensor]]:
        q, k = self._projected(self.q_proj, queries), self._projected(self.k_proj, reads)
        return self._attend(queries, reads, q, k, self.v_proj(concatenate(reads).values), stats)

    def _projected(self, linear: nn.Linear, parts: Sequence[Part]) -> Float[Tensor, "B L D"]:
        if not self.time_local or LEARNED.isdisjoint(name for name, _ in parts):
            return linear(concatenate(parts).values)
        biases = {name: None if name in LEARNED else linear.bias for name, _ in parts}
        return torch.cat([nn.functional.linear(part.values, linear.weight, biases[name]) for name, part in parts], 1)


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
