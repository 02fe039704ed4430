"""Causal modality weightings: the result without audio, without video, and without both.

V(S) is a value (a metric, or one clip's score for a tag) if the model gets only the modalities in S. A modality is
removed by the model's own missing-modality path, so models should be trained with modality dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.model import AVModel
from mmattn.types import Fused, Modality, Tokens

Subset = Literal["none", "video", "audio", "both"]
SUBSETS: tuple[Subset, ...] = ("none", "video", "audio", "both")
Value = TypeVar("Value", float, Tensor)


@dataclass(frozen=True)
class ShapleySplit(Generic[Value]):
    """The exact Shapley split over two modalities: video + audio = V(both) - V(none). Synergy: their interaction."""

    video: Value
    audio: Value
    synergy: Value


def shapley(value: Mapping[Subset, Value]) -> ShapleySplit[Value]:
    """phi_a = 1/2 [V(a) - V(0)] + 1/2 [V(av) - V(v)], phi_v alike; synergy = V(av) - V(a) - V(v) + V(0).

    Source: Shapley 1953, with two players.
    """
    none, video, audio, both = (value[subset] for subset in SUBSETS)
    return ShapleySplit(
        video=0.5 * (video - none) + 0.5 * (both - audio),
        audio=0.5 * (audio - none) + 0.5 * (both - video),
        synergy=both - audio - video + none,
    )


def alone(modality: Modality, video: Tokens, audio: Tokens) -> tuple[Tokens, Tokens]:
    """The two streams with only `modality` present."""
    return (video, absent(audio)) if modality == "video" else (absent(video), audio)


def absent(tokens: Tokens) -> Tokens:
    """The stream of clips without the modality: one token of padding, because more would only cost time."""
    keep = torch.zeros_like(tokens.keep[:, :1])
    return Tokens(tokens.values[:, :1], keep, tokens.times[:, :1])


def _first(tokens: Tokens) -> Tokens:
    return Tokens(tokens.values[:1], tokens.keep[:1], tokens.times[:1])


def subset_fusions(model: AVModel, video: Tokens, audio: Tokens, fused: Fused) -> dict[Subset, Fused]:
    """The fusion of each subset of modalities, without running the encoders again. `fused`: that of both.

    Without modalities all clips are equal, so "none" has one clip, which represents all.
    """
    return {
        "none": model.fuse(absent(_first(video)), absent(_first(audio))),
        "video": model.fuse(*alone("video", video, audio)),
        "audio": model.fuse(*alone("audio", video, audio)),
        "both": fused,
    }


def scores_on(model: AVModel, fusions: Mapping[Subset, Fused]) -> dict[Subset, Float[Tensor, "B K"]]:
    """Tag scores from each subset of modalities. `fusions`: see subset_fusions."""
    clips = len(fusions["both"].video.keep)
    logits: dict[Subset, Tensor] = {subset: model.task(fused) for subset, fused in fusions.items()}
    return {subset: model.task.scores(value).expand(clips, -1) for subset, value in logits.items()}


def subset_scores(model: AVModel, video: Tokens, audio: Tokens, fused: Fused) -> dict[Subset, Float[Tensor, "B K"]]:
    """Tag scores from each subset of modalities. `fused`: the fusion of both."""
    return scores_on(model, subset_fusions(model, video, audio, fused))


def permuted_scores(
    model: AVModel, video: Tokens, audio: Tokens, generator: torch.Generator
) -> dict[Modality, Float[Tensor, "B K"]]:
    """Tag scores with one modality taken from another clip of the batch, which keeps the distribution of its tokens.

    Clips with the modality exchange it along a random cycle, so none keeps its own unless it is the only one. The
    permutation score of a metric V is [V(av) - V(permuted m)] / V(av) (Gat et al. 2021, "perceptual score").
    """
    shuffled: dict[Modality, Tensor] = {
        "video": model.task(model.fuse(_exchanged(video, generator), audio)),
        "audio": model.task(model.fuse(video, _exchanged(audio, generator))),
    }
    return {name: model.task.scores(logits) for name, logits in shuffled.items()}


def _exchanged(tokens: Tokens, generator: torch.Generator) -> Tokens:
    source = torch.arange(len(tokens.keep))
    holders = tokens.present.cpu().nonzero().flatten()
    cycle = holders[torch.randperm(len(holders), generator=generator)]
    source[cycle] = cycle.roll(1)
    source = source.to(tokens.keep.device)
    return Tokens(tokens.values[source], tokens.keep[source], tokens.times[source])
