"""Pre-norm transformer blocks: x + attend(LN x, LN of what is read), then x + MLP(LN x).

Shape legend: B clips, L tokens, D channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.multi_head import MergedAttention, ReadingAttention
from mmattn.fusion.blocks.parts import LEARNED, Part, layer_stats, lengths, zeroed
from mmattn.types import LayerStats, Modality, Tokens


def check_layers(layers: int) -> int:
    """`layers`, at least 1. Raises ValueError."""
    if layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more")
    return layers


def mlp(dim: int, dropout: float = 0.0, mlp_ratio: int = 2) -> nn.Sequential:
    """The two-layer MLP of a transformer block, D -> `mlp_ratio` D -> D, in timm's names."""
    if mlp_ratio < 1:
        raise ValueError(f"mlp_ratio={mlp_ratio}: expected 1 or more")
    hidden = mlp_ratio * dim
    return nn.Sequential(
        OrderedDict(fc1=nn.Linear(dim, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, dim), drop=nn.Dropout(dropout))
    )


class StreamBlock(nn.Module):
    """The block of one stream or of both. It has its own normalisation and projections for each stream of `reads`."""

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        reads: tuple[Modality, ...],
        dropout: float,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        self.name = name
        self.norm1 = nn.ModuleDict({read: nn.LayerNorm(dim) for read in reads})
        self.attn = ReadingAttention(dim, heads, attention, reads, position)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, stream: Modality, read: dict[Modality, Tokens], stats: frozenset[str]
    ) -> tuple[Tokens, list[LayerStats]]:
        """`stream` after the block; `read` is what it reads, itself among them."""
        own = read[stream]
        normed = {name: tokens.with_values(self.norm1[name](tokens.values)) for name, tokens in read.items()}
        queries: list[Part] = [(stream, normed[stream])]
        reads: list[Part] = list(normed.items())
        read_values, measured = self.attn(queries, reads, stats)
        x = own.values + self.dropout(read_values)
        return zeroed(x + self.mlp(self.norm2(x)), own), list(layer_stats(self.name, queries, reads, measured))


class MergedBlock(nn.Module):
    """A block with one set of weights for all parts.

    `experts`: the parts of the queries, if each has an MLP of its own. `exempt`: parts to which neither order
    nor windows apply.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        dropout: float,
        experts: Sequence[str] = (),
        time_local: bool = True,
        mlp_ratio: int = 2,
        exempt: Iterable[str] = LEARNED,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        self.name = name
        self.norm1 = nn.LayerNorm(dim)
        self.attn = MergedAttention(dim, heads, attention, time_local, exempt, position)
        self.dropout = nn.Dropout(dropout)
        if experts:
            self.experts = nn.ModuleDict(
                {
                    part: nn.Sequential(OrderedDict(norm=nn.LayerNorm(dim), mlp=mlp(dim, dropout, mlp_ratio)))
                    for part in experts
                }
            )
        else:
            self.experts = None
            self.norm2 = nn.LayerNorm(dim)
            self.mlp = mlp(dim, dropout, mlp_ratio)

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[list[Part], list[LayerStats]]:
        """The queries after the block, and the attention statistics of each part of them."""
        read, measured = self.attn(self._normed(queries), self._normed(reads), stats)
        done: list[Part] = []
        for (name, tokens), update in zip(queries, read.split(lengths(queries), dim=1), strict=True):
            x = tokens.values + self.dropout(update)
            change = self.mlp(self.norm2(x)) if self.experts is None else self.experts[name](x)
            done.append((name, zeroed(x + change, tokens)))
        return done, list(layer_stats(self.name, queries, reads, measured))

    def _normed(self, parts: Sequence[Part]) -> list[Part]:
        return [(name, part.with_values(self.norm1(part.values))) for name, part in parts]
