"""The interface of positions: how the scores of a fusion's attention depend on time.

Shape legend as in attention/interface.py.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, Geometry


class Position(nn.Module):
    """Made for `heads` heads of `head_dim` channels.

    `turns`: it changes queries and keys by their times, so that a bias of both prefers keys of a query's own instant.
    """

    turns: bool

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Float[Tensor, "B H L D"], geometry: Geometry) -> Float[Tensor, "B H L D"]:
        """Queries or keys with what the position does to them."""

    def prepare(self, attention: Attention) -> Attention:
        """The mechanism, changed where this position needs it. Raises ValueError where the mechanism cannot have it."""
        return attention


PositionFactory = Callable[[int, int], Position]
"""What a config's `position` becomes: a fusion calls it with (heads, head_dim), once for each layer."""


def check_seconds(name: str, shortest_s: float, longest_s: float) -> None:
    """Raises ValueError unless 0 < shortest_s <= longest_s < infinity."""
    if not 0 < shortest_s <= longest_s < math.inf:
        raise ValueError(f"shortest_s={shortest_s}, longest_s={longest_s}: {name} expects 0 < shortest_s <= longest_s")


def geometric(
    shortest_s: float, longest_s: float, count: int, device: torch.device | None = None
) -> Float[Tensor, " N"]:
    """`count` seconds from the shortest to the longest at equal ratios, in float32 whatever the type of a model."""
    return torch.logspace(math.log10(shortest_s), math.log10(longest_s), count, dtype=torch.float32, device=device)
