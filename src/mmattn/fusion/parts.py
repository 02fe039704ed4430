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


def concatenate(parts: Sequence[Part]) -> Tokens:
    """The parts as one sequence."""
    streams = [tokens for _, tokens in parts]
    return Tokens(
        torch.cat([tokens.values for tokens in streams], dim=1),
        torch.cat([tokens.keep for tokens in streams], dim=1),
        torch.cat([tokens.times for tokens in streams], dim=1),
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
    """Learned vectors as tokens of every clip that has any of `parts`, in the middle of its time."""
    count = len(values)

    def places() -> Tokens:
        geometry = geometry_of(parts)
        assert geometry.keep is not None and geometry.time is not None
        keep = geometry.keep.to(geometry.time.dtype)
        centre = (geometry.time * keep).sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True).clamp(min=1.0)
        present = geometry.keep.any(dim=1, keepdim=True)
        return Tokens(centre[..., None], present.expand(-1, count), centre.expand(-1, count))

    made = once(parts[0][1].memo, ("learned", count, *_places(parts)), places)
    return made.with_values(values.expand(len(made.keep), -1, -1))


def geometry_of(parts: Sequence[Part]) -> Geometry:
    """Of the parts side by side. One object for the same places, so that what is planned for it is planned once."""

    def make() -> Geometry:
        keep = torch.cat([tokens.keep for _, tokens in parts], dim=1)
        times = torch.cat([tokens.times for _, tokens in parts], dim=1)
        return Geometry(keep, times, tuple(zip((name for name, _ in parts), lengths(parts), strict=True)))

    return once(parts[0][1].memo, ("geometry", *(name for name, _ in parts), *_places(parts)), make)


def _places(parts: Sequence[Part]) -> list[Tensor]:
    return [x for _, tokens in parts for x in (tokens.keep, tokens.times)]


def layer_stats(
    layer: str, queries: Sequence[Part], reads: Sequence[Part], measured: dict[str, Tensor]
) -> Iterator[LayerStats]:
    """What each part of the queries looked at, from an attention's statistics; nothing where mass is not among them."""
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
