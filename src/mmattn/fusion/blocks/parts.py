"""Tokens of several origins side by side: the streams, and what a strategy adds to them (bottleneck tokens, latents).

Shape legend: B clips, L tokens, N learned tokens, D channels, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.types import LayerStats, Tokens, once

Part = tuple[str, Tokens]  # tokens and what they are: a modality, "bottleneck", "latent"
LEARNED = frozenset({"bottleneck", "latent"})  # parts whose tokens stand for no instant


def concatenate(parts: Sequence[Part]) -> Tokens:
    """The parts as one sequence."""
    streams = [tokens for _, tokens in parts]
    return Tokens(
        torch.cat([tokens.values for tokens in streams], dim=1),
        torch.cat([tokens.keep for tokens in streams], dim=1),
        torch.cat([tokens.times for tokens in streams], dim=1),
        all(tokens.full for tokens in streams),
    )


def lengths(parts: Sequence[Part]) -> list[int]:
    """How many tokens each part has, padding included."""
    return [tokens.keep.shape[1] for _, tokens in parts]


def masked_mean(tokens: Tokens) -> Float[Tensor, "B D"]:
    """The mean of the real tokens; 0 where there is none."""
    keep = tokens.keep[..., None].to(tokens.values.dtype)
    return (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1.0)


def zeroed(values: Float[Tensor, "B L D"], like: Tokens) -> Tokens:
    """`values` at the places of `like`, 0 in its padding."""
    return like.with_values(torch.where(like.keep[..., None], values, 0.0))


def learned_tokens(values: Float[Tensor, "N D"], parts: Sequence[Part]) -> Tokens:
    """Learned vectors as tokens of every clip that has any of `parts`.

    Order and windows do not apply to them; their rotary position is the middle of the clip's time.
    """
    count = len(values)

    def places() -> Tokens:
        keep, time = (torch.cat(sides, dim=1) for sides in _sides(parts))
        real = keep.to(time.dtype)
        centre = (time * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(min=1.0)
        present, full = keep.any(dim=1, keepdim=True), keep.shape[1] > 0 and all(tokens.full for _, tokens in parts)
        return Tokens(centre[..., None], present.expand(-1, count), centre.expand(-1, count), full)

    made = once(parts[0][1].memo, ("learned", count, *_places(parts)), places)
    return made.with_values(values.expand(len(made.keep), -1, -1))


def geometry_of(parts: Sequence[Part], exempt: frozenset[str] = frozenset()) -> Geometry:
    """Of the parts side by side. One object for the same places, so that what is planned for it is planned once.

    No mask where all tokens are known to be real, so that kernels without a mask can run.
    """
    names = tuple(name for name, _ in parts)
    bound = exempt & set(names)

    def make() -> Geometry:
        keeps, times = _sides(parts)
        keep = None if all(tokens.full for _, tokens in parts) else torch.cat(keeps, dim=1)
        return Geometry(keep, torch.cat(times, dim=1), tuple(zip(names, lengths(parts), strict=True)), bound)

    return once(parts[0][1].memo, ("geometry", names, bound, *_places(parts)), make)


def _sides(parts: Sequence[Part]) -> tuple[list[Tensor], list[Tensor]]:
    return [tokens.keep for _, tokens in parts], [tokens.times for _, tokens in parts]


def _places(parts: Sequence[Part]) -> list[Tensor | bool]:
    return [x for _, tokens in parts for x in (tokens.keep, tokens.times, tokens.full)]


def layer_stats(
    layer: str, queries: Sequence[Part], reads: Sequence[Part], measured: dict[str, Tensor]
) -> Iterator[LayerStats]:
    """The statistics of each part of the queries; none where the attention gives no mass."""
    if "mass" not in measured:
        return
    counts = {name: tokens.keep.sum(dim=1).float() for name, tokens in reads}
    total = torch.stack(list(counts.values())).sum(dim=0).clamp(min=1.0)
    prior = {name: count / total for name, count in counts.items()}
    sides = {name: value.split(lengths(queries), dim=2) for name, value in measured.items()}
    for i, (stream, tokens) in enumerate(queries):
        mass = {name: sides["mass"][i][..., j] for j, (name, _) in enumerate(reads)}
        entropy = sides["entropy"][i] if "entropy" in sides else None
        lag = sides["mean_time"][i] - tokens.times[:, None] if "mean_time" in sides else None
        weights = None
        if "weights" in sides:
            of_reads = sides["weights"][i].mean(dim=1).split(lengths(reads), dim=2)
            weights = {name: part for (name, _), part in zip(reads, of_reads, strict=True)}
        yield LayerStats(layer, stream, tokens.keep, mass, prior, entropy=entropy, lag=lag, weights=weights)
