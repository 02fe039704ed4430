"""What every fusion strategy is made of: the interface, and the block of a stream.

Shape legend: B clips, L tokens of a stream, D channels, d channels of a head, H heads.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionFactory, Geometry
from mmattn.attention.rotary import rotary_periods, rotate
from mmattn.types import MODALITIES, Fused, LayerStats, Modality, Tokens

Reads = dict[Modality, tuple[Modality, ...]]  # which streams each stream reads
LOCAL_SCORE = 6.0  # initial score between a query and a key of the same instant, in the time-local heads


class Fusion(nn.Module):
    """Two streams of tokens in, the fused streams out. Either stream may be missing in any clip.

    `weighs`: what its statistics are shares of, where it has a weighting of one part against another at all.
    """

    weighs: ClassVar[Literal["attention", "gate"] | None] = "attention"

    @abstractmethod
    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused: ...


class ReadingAttention(nn.Module):
    """Multi-head attention of one stream over one or more streams at once, under one softmax.

    Each stream that is read has its own key and value projection. Positions are rotary in seconds. Half of the heads
    start time-local: their query and key biases are equal, so that rotation alone makes a query prefer keys of its own
    instant; the others start global. Both stay free to learn.
    """

    periods: Tensor

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, reads: tuple[Modality, ...]) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} does not divide into {heads} heads")
        self.heads = heads
        self.reads = reads
        self.query = nn.Linear(dim, dim)
        self.keys = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        self.values = nn.ModuleDict({name: nn.Linear(dim, dim) for name in reads})
        self.out = nn.Linear(dim, dim)
        self.attention: Attention = attention(heads, dim // heads)
        self.register_buffer("periods", rotary_periods(dim // heads), persistent=False)
        start_time_local(self.query, list(self.keys.values()), heads)

    def forward(
        self, queries: Tokens, streams: dict[Modality, Tokens], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B L D"], dict[str, Tensor]]:
        read = [streams[name] for name in self.reads]
        keep = torch.cat([tokens.keep for tokens in read], dim=1)
        times = torch.cat([tokens.times for tokens in read], dim=1)
        segments = tuple((name, streams[name].keep.shape[1]) for name in self.reads)
        k = torch.cat([self.keys[name](streams[name].values) for name in self.reads], dim=1)
        v = torch.cat([self.values[name](streams[name].values) for name in self.reads], dim=1)
        result = self.attention(
            rotate(self._split(self.query(queries.values)), queries.times, self.periods),
            rotate(self._split(k), times, self.periods),
            self._split(v),
            Geometry(queries.keep, queries.times),
            Geometry(keep, times, segments),
            stats & self.attention.supports,  # a layer reports what its mechanism defines
        )
        return self.out(result.out.transpose(1, 2).flatten(2)), result.stats

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L d"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def start_time_local(query: nn.Module, keys: Sequence[nn.Module], heads: int) -> None:
    """Give the linear maps `query` and `keys` the biases by which half of the heads prefer their own instant."""
    assert isinstance(query, nn.Linear)
    head_dim = query.out_features // heads
    size = math.sqrt(LOCAL_SCORE * math.sqrt(head_dim) / (head_dim // 2))
    bias = torch.zeros(heads, head_dim)
    bias[: heads // 2, : head_dim // 2] = size  # the first channel of each rotated pair
    with torch.no_grad():
        for linear in (query, *keys):
            assert isinstance(linear, nn.Linear)
            linear.bias.copy_(bias.flatten())


class StreamBlock(nn.Module):
    """Pre-norm transformer block of one stream: x + attend(LN x, LN of what it reads), then x + MLP(LN x)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        stream: Modality,
        reads: tuple[Modality, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        self.stream: Modality = stream
        self.reads = reads
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in reads})
        self.attend = ReadingAttention(dim, heads, attention, reads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, streams: dict[Modality, Tokens], layer: str, stats: frozenset[str]
    ) -> tuple[Tokens, LayerStats | None]:
        own = streams[self.stream]
        normed: dict[Modality, Tokens] = {
            name: Tokens(self.norms[name](streams[name].values), streams[name].keep, streams[name].times)
            for name in self.reads
        }
        read, measured = self.attend(normed[self.stream], normed, stats)
        x = own.values + self.dropout(read)
        x = x + self.mlp(x)
        tokens = Tokens(torch.where(own.keep[..., None], x, 0.0), own.keep, own.times)
        if "mass" not in measured:
            return tokens, None
        mass = {name: measured["mass"][..., i] for i, name in enumerate(self.reads)}
        return tokens, LayerStats(layer, self.stream, own.keep, mass, _prior(streams, self.reads))


def _prior(streams: dict[Modality, Tokens], reads: tuple[Modality, ...]) -> dict[str, Tensor]:
    counts = {name: streams[name].keep.sum(dim=1).float() for name in reads}
    total = torch.stack(list(counts.values())).sum(dim=0).clamp(min=1.0)
    return {name: count / total for name, count in counts.items()}


class TwoStream(Fusion):
    """Two stacks of blocks, one a modality. What each block reads is the strategy."""

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        layers: int,
        attention: AttentionFactory,
        reads: Reads,
        dropout: float,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers={layers}: expected 1 or more")
        self.name = name
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {stream: StreamBlock(dim, heads, attention, stream, reads[stream], dropout) for stream in MODALITIES}
            )
            for _ in range(layers)
        )

    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        measured: list[LayerStats] = []
        for i, pair in enumerate(self.blocks):
            assert isinstance(pair, nn.ModuleDict)
            done = {name: pair[name](streams, f"{self.name}.{i}", stats) for name in MODALITIES}
            streams = {name: done[name][0] for name in MODALITIES}
            measured += [layer for _, layer in done.values() if layer is not None]
        return Fused(streams["video"], streams["audio"], tuple(measured))
