"""Attention with linear biases (ALiBi, Press et al. 2022) on seconds, in both directions.

A pair's score is lowered by |t_q - t_k| / s_h. The seconds s_h, over which a weight falls to 1/e, differ by head and
are not learned. Nothing is lowered where the query or the key is exempt from order.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Attention, Geometry
from mmattn.attention.positions.interface import Position, check_seconds
from mmattn.attention.positions.rotary import LONGEST_S, SHORTEST_S


class ALiBi(Position):
    """s_h from `shortest_s` (the first head) to `longest_s`, for exact mechanisms only: others score no pairs."""

    turns = False

    def __init__(self, heads: int, head_dim: int, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S) -> None:
        super().__init__(heads, head_dim)
        check_seconds("alibi", shortest_s, longest_s)
        self.range_s = shortest_s, longest_s

    def forward(self, x: Float[Tensor, "B H L D"], geometry: Geometry) -> Float[Tensor, "B H L D"]:
        return x

    def prepare(self, attention: Attention) -> Attention:
        attention.lower_by_distance(*self.range_s)
        return attention
