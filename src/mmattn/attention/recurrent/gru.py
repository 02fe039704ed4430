"""The encoder-decoder before attention: all keys through one recurrent state of fixed size.

Shape legend as in interface.py; N = H D channels of a token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionOutput, Geometry
from mmattn.attention.order import real
from mmattn.attention.recurrent.ordered import bidirectional_gru, ordered


class GRUAttention(Attention):
    """No attention at all: all keys pass through one state of fixed size (Cho et al. 2014; Sutskever et al. 2014).

    h = GRU over [k_j; v_j] in the order of time, in both directions: the last states, `state` numbers in all.
    out_i = sigmoid(q_i) * (W h)_head: a query can choose channels of the state, but no time. This is the
    bottleneck that attention removes.
    """

    exact = True
    supports = frozenset()
    time_cost = "Lk (H D)^2, in Lk steps"
    memory_cost = "(Lq + Lk) D"
    reference = "Cho et al. 2014"

    def __init__(self, heads: int, head_dim: int, state: int | None = None) -> None:
        super().__init__(heads, head_dim)
        state = heads * head_dim if state is None else state
        self.gru = bidirectional_gru(heads * head_dim, state)
        self.out_proj = nn.Linear(state, heads * head_dim)

    def attend(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str],
    ) -> AttentionOutput:
        _, last = self.gru(*ordered(k, v, k_geometry))  # (2, B, state / 2)
        summary = self.out_proj(last.transpose(0, 1).flatten(1)).unflatten(1, (self.heads, 1, -1))  # (B, H, 1, D)
        summary = torch.where(real(k_geometry, k).any(dim=1)[:, None, None, None], summary, 0.0)
        return AttentionOutput((torch.sigmoid(q) * summary).to(v.dtype))
