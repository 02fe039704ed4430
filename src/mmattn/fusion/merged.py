"""Blocks with one set of weights over tokens of several origins: a merged sequence, bottleneck tokens, latents.

Shape legend: B clips, L tokens, D channels, d channels of a head, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Attention, AttentionFactory, Geometry
from mmattn.attention.rotary import rotary_periods, rotate
from mmattn.fusion.base import start_time_local
from mmattn.types import LayerStats, Tokens

Part = tuple[str, Tokens]  # tokens and what they are: a modality, "bottleneck", "latent"


def concatenate(parts: Sequence[Part]) -> Tokens:
    """The parts as one sequence."""
    streams = [tokens for _, tokens in parts]
    return Tokens(
        torch.cat([tokens.values for tokens in streams], dim=1),
        torch.cat([tokens.keep for tokens in streams], dim=1),
        torch.cat([tokens.times for tokens in streams], dim=1),
    )


def check_layers(layers: int) -> int:
    """`layers`, at least 1. Raises ValueError."""
    if layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more")
    return layers


def masked_mean(tokens: Tokens) -> Float[Tensor, "B D"]:
    """The mean of the real tokens; 0 where there is none."""
    keep = tokens.keep[..., None].to(tokens.values.dtype)
    return (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1.0)


def centre(parts: Sequence[Part]) -> Float[Tensor, " B"]:
    """The mean time of the real tokens, s: where tokens without a time of their own are put."""
    tokens = concatenate(parts)
    keep = tokens.keep.to(tokens.times.dtype)
    return (tokens.times * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1.0)


def learned_tokens(values: Float[Tensor, "N D"], parts: Sequence[Part]) -> Tokens:
    """Learned vectors as tokens of every clip that has any of `parts`, in the middle of its time."""
    times = centre(parts)[:, None].expand(-1, len(values))
    present = torch.stack([tokens.present for _, tokens in parts]).any(dim=0)
    return Tokens(values.expand(len(times), -1, -1), present[:, None].expand(-1, len(values)), times)


class MergedAttention(nn.Module):
    """Multi-head attention of some tokens over some parts at once, one set of weights for all parts.

    `time_local`: half of the heads start by preferring keys of the query's own instant (see ReadingAttention). Not for
    learned tokens, which have no instant of their own.
    """

    periods: Tensor

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, time_local: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} does not divide into {heads} heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=time_local)  # without rotation a bias of all keys cancels in a softmax
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.attention: Attention = attention(heads, dim // heads)
        self.register_buffer("periods", rotary_periods(dim // heads), persistent=False)
        if time_local:
            start_time_local(self.query, [self.key], heads)

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[Float[Tensor, "B L D"], dict[str, Tensor]]:
        asking, read = concatenate(queries), concatenate(reads)
        result = self.attention(
            rotate(self._heads(self.query(asking.values)), asking.times, self.periods),
            rotate(self._heads(self.key(read.values)), read.times, self.periods),
            self._heads(self.value(read.values)),
            Geometry(asking.keep, asking.times, _segments(queries)),
            Geometry(read.keep, read.times, _segments(reads)),
            stats & self.attention.supports,
        )
        return self.out(result.out.transpose(1, 2).flatten(2)), result.stats

    def _heads(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L d"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def feed_forward(dim: int, dropout: float) -> nn.Sequential:
    """LN, then the two-layer MLP of a transformer block, D -> 2D -> D."""
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
    )


class MergedBlock(nn.Module):
    """Pre-norm transformer block: x + attend(LN x, LN of what is read), then x + MLP(LN x).

    `mlps`: which MLP serves which parts of the queries. By default one serves all; none leaves it out.
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
    ) -> None:
        super().__init__()
        self.name = name
        self.norm = nn.LayerNorm(dim)
        self.attend = MergedAttention(dim, heads, attention, time_local)
        self.dropout = nn.Dropout(dropout)
        self.mlps = nn.ModuleDict({"_".join(served): feed_forward(dim, dropout) for served in mlps})
        self.serves = {part: "_".join(served) for served in mlps for part in served}

    def forward(
        self, queries: Sequence[Part], reads: Sequence[Part], stats: frozenset[str]
    ) -> tuple[list[Part], list[LayerStats]]:
        """The queries after the block, and what each part of them looked at."""
        read, measured = self.attend(self._normed(queries), self._normed(reads), stats)
        lengths = [tokens.keep.shape[1] for _, tokens in queries]
        done: list[Part] = []
        for (name, tokens), said in zip(queries, read.split(lengths, dim=1), strict=True):
            x = tokens.values + self.dropout(said)
            which = self.serves.get(name, self.serves.get("any"))
            if which is not None:
                x = x + self.mlps[which](x)
            done.append((name, zeroed(x, tokens)))
        return done, list(self._stats(queries, reads, measured))

    def _normed(self, parts: Sequence[Part]) -> list[Part]:
        return [(name, Tokens(self.norm(part.values), part.keep, part.times)) for name, part in parts]

    def _stats(
        self, queries: Sequence[Part], reads: Sequence[Part], measured: dict[str, Tensor]
    ) -> Iterator[LayerStats]:
        if "mass" not in measured:
            return
        lengths = [tokens.keep.shape[1] for _, tokens in queries]
        for (name, tokens), mass in zip(queries, measured["mass"].split(lengths, dim=2), strict=True):
            by_part = {part: mass[..., i] for i, (part, _) in enumerate(reads)}
            yield LayerStats(self.name, name, tokens.keep, by_part, prior(reads))


def zeroed(values: Float[Tensor, "B L D"], like: Tokens) -> Tokens:
    """`values` at the places of `like`, 0 in its padding."""
    return Tokens(torch.where(like.keep[..., None], values, 0.0), like.keep, like.times)


def prior(parts: Sequence[Part]) -> dict[str, Float[Tensor, " B"]]:
    """n_m / sum n over the real tokens: the mass that uniform attention would give."""
    counts = {name: tokens.keep.sum(dim=1).float() for name, tokens in parts}
    total = torch.stack(list(counts.values())).sum(dim=0).clamp(min=1.0)
    return {name: count / total for name, count in counts.items()}


def _segments(parts: Sequence[Part]) -> tuple[tuple[str, int], ...]:
    return tuple((name, tokens.keep.shape[1]) for name, tokens in parts)
