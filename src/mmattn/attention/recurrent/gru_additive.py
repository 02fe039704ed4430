"""Bahdanau's model: additive attention over the states of a recurrent network.

Shape legend as in interface.py; N = H D channels of a token.

"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import time_rank
from mmattn.attention.recurrent.ordered import bidirectional_gru, ordered
from mmattn.attention.scores.additive import AdditiveAttention


class GRUAdditiveAttention(Attention):
    """Bahdanau's complete model: additive attention over the states of a bidirectional GRU (Bahdanau et al. 2015).

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
        self.gru = bidirectional_gru(size, size)
        self.k_proj = nn.Linear(size, size)
        self.attention = AdditiveAttention(heads, head_dim)

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        states, _ = self.gru(*ordered(k, v, k_geometry))  # (B, Lk, N)
        states = states.gather(1, time_rank(k_geometry, k)[..., None].expand_as(states))  # where the keys were given
        keys, values = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (self.k_proj(states), states))
        return self.attention(q, keys.to(q.dtype), values.to(v.dtype), q_geometry, k_geometry, stats)
