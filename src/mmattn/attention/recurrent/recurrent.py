"""What there was before attention, behind the same signature: recurrent networks over the keys in the order of time.

Shape legend as in interface.py; N = H D channels of a token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import real, time_order, time_rank
from mmattn.attention.recurrent.gru import GRU
from mmattn.attention.scores.additive import AdditiveAttention


class GRUAttention(Attention):
    """No attention at all: all keys pass through one state of fixed size (Cho et al. 2014; Sutskever et al. 2014).

    h = GRU over [k_j; v_j] in the order of time, in both directions: the last states, `state` numbers in all.
    out_i = sigmoid(q_i) * (W h)_head: a query may choose channels of the state, never an instant. That is the
    bottleneck that attention was invented to remove.
    """

    exact = True
    supports = frozenset()
    time_cost = "Lk (H D)^2, in Lk steps"
    memory_cost = "(Lq + Lk) D"
    reference = "Cho et al. 2014"

    def __init__(self, heads: int, head_dim: int, state: int | None = None) -> None:
        super().__init__(heads, head_dim)
        state = heads * head_dim if state is None else state
        self.gru = _both_ways(heads * head_dim, state)
        self.out_proj = nn.Linear(state, heads * head_dim)

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
        _, last = self.gru(*_ordered(k, v, k_geometry))  # (2, B, state / 2)
        summary = self.out_proj(last.transpose(0, 1).flatten(1)).unflatten(1, (self.heads, 1, -1))  # (B, H, 1, D)
        summary = torch.where(real(k_geometry, k).any(dim=1)[:, None, None, None], summary, 0.0)
        return AttentionOutput((torch.sigmoid(q) * summary).to(v.dtype))


class GRUAdditiveAttention(Attention):
    """Bahdanau's model whole: additive attention over the states of a bidirectional GRU (Bahdanau et al. 2015).

    h_j = GRU over [k_j; v_j] in the order of time, in both directions (their "annotations", section 3.2);
    score_ij = w . tanh(q_i + U h_j); out_i = sum_j softmax_j(score_ij) h_j, by heads.
    """

    exact = True
    supports = AdditiveAttention.supports
    time_cost = "Lk (H D)^2 + Lq Lk D, in Lk steps"
    memory_cost = "(Lq + Lk) D"
    reference = "Bahdanau et al. 2015"

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__(heads, head_dim)
        size = heads * head_dim
        self.gru = _both_ways(size, size)
        self.k_proj = nn.Linear(size, size)
        self.attention = AdditiveAttention(heads, head_dim)

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
        states, _ = self.gru(*_ordered(k, v, k_geometry))  # (B, Lk, N)
        states = states.gather(1, time_rank(k_geometry, k)[..., None].expand_as(states))  # where the keys were given
        keys, values = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (self.k_proj(states), states))
        return self.attention(q, keys.to(q.dtype), values.to(v.dtype), q_geometry, k_geometry, stats)


def _both_ways(size: int, state: int) -> GRU:
    if state < 2 or state % 2:
        raise ValueError(f"a state of {state} does not divide into two directions")
    return GRU(2 * size, state // 2)


def _ordered(k: Tensor, v: Tensor, k_geometry: Geometry) -> tuple[Float[Tensor, "B Lk N"], Int[Tensor, " B"]]:
    """[k; v] of the real keys in the order of time, and their number. A clip without any has one token of zeros."""
    tokens = torch.cat([k, v], dim=1).transpose(1, 2).flatten(2)  # (B, Lk, 2 N)
    keep = real(k_geometry, k)
    tokens = torch.where(keep[..., None], tokens, 0.0)
    tokens = tokens.gather(1, time_order(k_geometry, k)[..., None].expand_as(tokens))
    return tokens, keep.sum(dim=1).clamp(min=1)
