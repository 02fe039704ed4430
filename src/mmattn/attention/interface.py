"""The one signature behind which every attention mechanism stands.

Shape legend: B clips, H heads, Lq queries, Lk keys, D channels of a head, S segments of the keys.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Geometry:
    """What a mechanism may know of one side (the queries or the keys) beside its vectors."""

    keep: Bool[Tensor, "B L"] | None = None  # True = real; None = all real
    time: Float[Tensor, "B L"] | None = None  # seconds
    segments: tuple[tuple[str, int], ...] = ()  # contiguous modalities, e.g. (("video", 196), ("audio", 512))


@dataclass(frozen=True)
class AttentionOutput:
    """`out` (B, H, Lq, D) and the statistics that were asked for.

    `stats["mass"]` (B, H, Lq, S): attention mass on each segment of the keys; sums to 1, or 0 where no key is real.
    `stats["weights"]` (B, H, Lq, Lk): the explicit matrix.
    """

    out: Float[Tensor, "B H Lq D"]
    stats: dict[str, Tensor] = field(default_factory=dict)


class Attention(nn.Module):
    """A mechanism, made for `heads` heads of `head_dim` channels: those with weights of their own need to know.

    `exact`: computes its own definition, not an estimate of another's. `supports`: the stats it has. `time_cost` and
    `memory_cost` of a forward with gradient, in this module's letters, and `reference` are what `mmattn show attention`
    prints. All may be set by the class or, where they depend on what it was made of, by the instance.
    """

    exact: bool
    supports: frozenset[str]
    time_cost: str
    memory_cost: str
    reference: str

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim

    @abstractmethod
    def forward(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        """Attend. A query without any real key gives 0. Raises ValueError for stats outside `supports`."""

    def check_stats(self, stats: frozenset[str]) -> None:
        if missing := stats - self.supports:
            raise ValueError(
                f"{type(self).__name__} does not define {sorted(missing)}; it supports {sorted(self.supports)}"
            )


AttentionFactory = Callable[[int, int], Attention]
"""What a config's `attention` becomes: a fusion calls it with (heads, head_dim), once for each layer."""
