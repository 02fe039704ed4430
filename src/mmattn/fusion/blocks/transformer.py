"""Pre-norm transformer blocks: x + attend(LN x, LN of what is read), then x + MLP(LN x).

Shape legend: B clips, L tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.fusion.blocks.attend import MergedAttention, ReadingAttention
from mmattn.fusion.blocks.parts import LEARNED, Part, layer_stats, lengths, zeroed
from mmattn.types import LayerStats, Modality, Tokens


def check_layers(layers: int) -> int:
    """`layers`, at least 1. Raises ValueError."""
    if layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more")
    return layers


def feed_forward(dim: int, dropout: float, mlp_ratio: int = 2) -> nn.Sequential:
    """LN, then the two-layer MLP of a transformer block, D -> `mlp_ratio` D -> D."""
    if mlp_ratio < 1:
        raise ValueError(f"mlp_ratio={mlp_ratio}: expected 1 or more")
    inner = mlp_ratio * dim
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim), nn.Dropout(dropout)
    )


class StreamBlock(nn.Module):
    """The block of one stream. It has its own normalisation and projections for each stream that it reads."""

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        stream: Modality,
        reads: tuple[Modality, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        self.name = name
        self.stream: Modality = stream
        self.reads = reads
        self.norms = nn.ModuleDict({read: nn.LayerNorm(dim) for read in reads})
        self.attend = ReadingAttention(dim, heads, attention, reads)
        self.mlp = feed_forward(dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, streams: dict[Modality, Tokens], stats: frozenset[str]) -> tuple[Tokens, list[LayerStats]]:
        own = streams[self.stream]
        normed: dict[str, Tokens] = {
            name: streams[name].with_values(self.norms[name](streams[name].values)) for name in self.reads
        }
        asks, reads = [(self.stream, normed[self.stream])], list(normed.items())
        read, measured = self.attend(asks, reads, stats)
        x = own.values + self.dropout(read)
        return zeroed(x + self.mlp(x), own), list(layer_stats(self.name, asks, reads, measured))


class MergedBlock(nn.Module):
    """A block with one set of weights for all parts.

    `mlps`: which MLP serves which parts of the queries; by default one serves all. `exempt`: parts that neither order
    nor windows bind.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        dropout: float,
        mlps: Sequence[tuple[str, ...]] = (("any",),),
        time_local: bool = True,
        mlp_ratio: int = 2,
        exempt: Iterable[str] = LEARNED,
    ) -> None:
        super().__init__()
        self.name = name
        self.norm = nn.LayerNorm(dim)
        self.attend = MergedAttention(dim, heads, attention, time_local, exempt)
        self.dropout = nn.Dropout(dropout)
        self.mlps = nn.ModuleDict({"_".join(served): feed_forward(dim, dropout, mlp_ratio) for served in mlps})
        self.serves = {part: "_".join(served) for served in mlps for part in served}

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[list[Part], list[LayerStats]]:
        """The queries after the block, and what each part of them looked at."""
        read, measured = self.attend(self._normed(queries), self._normed(reads), stats)
        done: list[Part] = []
        for (name, tokens), said in zip(queries, read.split(lengths(queries), dim=1), strict=True):
            x = tokens.values + self.dropout(said)
            mlp = self.mlps[self.serves.get(name, "any")]
            done.append((name, zeroed(x + mlp(x), tokens)))
        return done, list(layer_stats(self.name, queries, reads, measured))

    def _normed(self, parts: Sequence[Part]) -> list[Part]:
        return [(name, part.with_values(self.norm(part.values))) for name, part in parts]
