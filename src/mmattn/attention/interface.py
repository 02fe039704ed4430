"""The interface of every attention mechanism, and of the three parts of an exact one.

Shape legend: B clips, H heads, Lq queries, Lk keys, D channels of a head, S segments of the keys, G blocks of Q queries
and W keys.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.types import Memo

STATS = frozenset({"weights", "mass", "entropy", "mean_time"})


@dataclass(frozen=True)
class Geometry:
    """What a mechanism knows about the queries or the keys besides their vectors.

    Tokens of `exempt` segments stand for no instant: learned tokens, and summaries of longer stretches. Order and
    windows do not apply to them: they read every key, and every query reads them.
    """

    keep: Bool[Tensor, "B L"] | None = None  # True = real; None = all real
    time: Float[Tensor, "B L"] | None = None  # seconds
    segments: tuple[tuple[str, int], ...] = ()  # contiguous modalities, e.g. (("video", 196), ("audio", 512))
    exempt: frozenset[str] = frozenset()  # names of segments
    # Cached plans (plans.py). A copy with other tokens starts with an empty cache.
    plans: Memo = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def all_exempt(self) -> bool:
        """Whether every token is exempt from order and windows."""
        return bool(self.segments) and all(name in self.exempt for name, _ in self.segments)

    def of_clips(self, clips: Bool[Tensor, " B"]) -> Geometry:
        """The same for some clips of the batch."""
        keep, time = (None if x is None else x[clips] for x in (self.keep, self.time))
        return replace(self, keep=keep, time=time)

    def exempt_flags(self, like: Tensor) -> Bool[Tensor, " L"] | None:
        """Which tokens are exempt; None if none is. `like` gives the device."""
        if self.exempt.isdisjoint(name for name, _ in self.segments):
            return None
        parts = [like.new_full((count,), name in self.exempt, dtype=torch.bool) for name, count in self.segments]
        return torch.cat(parts)

    def lengths(self, length: int) -> tuple[int, ...]:
        """Tokens in each segment; one segment of `length` where none is named. Raises ValueError if they miss it."""
        if not self.segments:
            return (length,)
        lengths = tuple(count for _, count in self.segments)
        if sum(lengths) != length:
            raise ValueError(f"segments {self.segments} hold {sum(lengths)} keys, but there are {length}")
        return lengths


@dataclass(frozen=True)
class AttentionOutput:
    """`out` (B, H, Lq, D) and the requested statistics. Those of a query that reads no key are 0.

    `stats["mass"]` (B, H, Lq, S): share of the attention on each segment of the keys; sums to 1.
    `stats["entropy"]` (B, H, Lq): of the weights, in nats.
    `stats["mean_time"]` (B, H, Lq): sum_k weight_k time_k, in seconds.
    `stats["weights"]` (B, H, Lq, Lk): the explicit matrix.
    Mass, entropy and mean_time are float32 (or wider) and carry gradients.
    """

    out: Float[Tensor, "B H Lq D"]
    stats: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def nothing(cls, q: Tensor, k: Tensor, v: Tensor, k_geometry: Geometry, stats: frozenset[str]) -> AttentionOutput:
        """The output if there are no keys (or no queries)."""
        b, h, lq, _ = q.shape
        shapes = {"mass": (len(k_geometry.lengths(k.shape[2])),), "weights": (k.shape[2],)}
        wide = torch.promote_types(v.dtype, torch.float32)
        zero = {name: q.new_zeros(b, h, lq, *shapes.get(name, ()), dtype=wide) for name in stats}
        return cls(v.new_zeros(b, h, lq, v.shape[3]), zero)


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

    def forward(
        self,
        q: Float[Tensor, "B H Lq D"],
        k: Float[Tensor, "B H Lk D"],
        v: Float[Tensor, "B H Lk D"],
        q_geometry: Geometry,
        k_geometry: Geometry,
        stats: frozenset[str] = frozenset(),
    ) -> AttentionOutput:
        """Attend. A query without any real key gives 0. Raises ValueError for stats outside `supports`.

        Padding may hold any numbers, but not nan (a fusion sees to that); its times may be nan.
        """
        self.check_stats(stats)
        if 0 in (q.shape[0], q.shape[2], k.shape[2]):
            return AttentionOutput.nothing(q, k, v, k_geometry, stats)
        return self.attend(q, k, v, q_geometry, k_geometry, stats)

    @abstractmethod
    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, q_geometry: Geometry, k_geometry: Geometry, stats: frozenset[str]
    ) -> AttentionOutput:
        """What `forward` gives for one or more clips, queries and keys, and stats that it supports."""

    def lower_by_distance(self, shortest_s: float, longest_s: float) -> None:
        """Lower the score of a pair by its distance in time over s, from the shortest (first head) to the longest.

        Raises ValueError where the mechanism has no such scores.
        """
        raise ValueError(f"position=alibi: {type(self).__name__} scores no pairs of tokens; use position=rotary")

    def check_stats(self, stats: frozenset[str]) -> None:
        if missing := stats - self.supports:
            raise ValueError(
                f"{type(self).__name__} does not define {sorted(missing)}; it supports {sorted(self.supports)}"
            )


AttentionFactory = Callable[[int, int], Attention]
"""What a config's `attention` becomes: a fusion calls it with (heads, head_dim), once for each layer.

The parts of an exact attention (score, normaliser, pattern) come as the same kind of factory: `_partial_: true`.
"""


class Score(nn.Module):
    """Rewrites queries and keys so that the score of a pair is scale * q'.k'; what it returns may be wider than D."""

    reference: str

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, q: Float[Tensor, "B H Lq D"], k: Float[Tensor, "B H Lk D"]
    ) -> tuple[Float[Tensor, "B H Lq E"], Float[Tensor, "B H Lk E"], float]: ...


class DotProduct(Score):
    """q.k / sqrt(D) (Vaswani et al. 2017, eq. 1)."""

    reference = "Vaswani et al. 2017"

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        return q, k, 1 / math.sqrt(q.shape[-1])


class Normaliser(nn.Module):
    """Turns the scores of a query into weights, instead of softmax."""

    reference: str

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, scores: Float[Tensor, "*G H Q W"], mask: Bool[Tensor, "*G #H #Q W"]) -> Float[Tensor, "*G H Q W"]:
        """Weights along the last dimension; 0 where not `mask`, and all 0 in a row without any True."""


@dataclass(frozen=True)
class Blocks:
    """Pairs to read, as G dense blocks: block g reads the keys key[g] for the queries query[g], where mask[g].

    Rows count through a batch's tokens, b * L + i; per_head: through its heads' too, (b * H + h) * L + i. A query is in
    at most one block, a key in any number. `query` is B * Lq (B * H * Lq) in slots that hold none. `beside`: no query
    of these blocks reads anything in the part before, so that there is nothing to merge with that.
    """

    query: Int[Tensor, "G Q"]
    key: Int[Tensor, "G W"]
    mask: Bool[Tensor, "G Q W"]
    per_head: bool = False
    beside: bool = False


class Pattern(nn.Module):
    """Which pairs are read: None for all real ones, or parts of blocks. No pair is in two parts.

    `merges`: a query may be in several parts, so that its softmax has to be merged over them. `per_head`: its blocks
    are. `by_vectors`: what is read depends on q and k themselves; otherwise on their geometry and the pattern's
    settings alone, so that a plan is made once for a geometry (plans.py). `time_cost`: as an Attention's, W being the
    keys that a query's block reads.
    """

    merges: bool = False
    per_head: bool = False
    by_vectors: bool = True
    time_cost: str = "Lq W D"
    memory_cost: str = "(Lq + Lk) D + Lq W"
    reference: str

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()

    @abstractmethod
    def plan(
        self,
        q: Float[Tensor, "B H Lq E"],
        k: Float[Tensor, "B H Lk E"],
        q_geometry: Geometry,
        k_geometry: Geometry,
    ) -> list[Blocks] | None: ...

    def layout(self, q_geometry: Geometry, k_geometry: Geometry) -> list[bool] | None:
        """What `plan` gives, before there are numbers: `beside` of each part; None for all pairs.

        A compiler has to know it. Raises NotImplementedError where a pattern runs without one only.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no `layout`, which torch.compile needs; run it without compiling"
        )
