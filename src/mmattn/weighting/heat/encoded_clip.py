"""One encoded clip, and its scores from any subset of its tokens.

A token is removed like a missing modality, by its keep mask: the way in which the model itself represents absence.

Shape legend: L tokens of a stream, N masks, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.model import AVModel
from mmattn.types import MODALITIES, Fused, Modality, Tokens

Heat = dict[Modality, Float[Tensor, "K L"]]


@dataclass(frozen=True)
class EncodedClip:
    """Both streams of one clip (B = 1), encoded once."""

    model: AVModel
    video: Tokens
    audio: Tokens
    batch_size: int = 64

    def stream(self, name: Modality) -> Tokens:
        """The tokens of one modality."""
        return self.video if name == "video" else self.audio

    def keep(self) -> dict[Modality, Bool[Tensor, " L"]]:
        """Which tokens are real."""
        return {name: self.stream(name).keep[0] for name in MODALITIES}

    @torch.inference_mode()
    def scores(self, masks: dict[Modality, Bool[Tensor, "N L"]], tags: Sequence[int]) -> Float[Tensor, "N K"]:
        """The scores of `tags` from the tokens that each mask keeps."""
        found = []
        for part in zip(*(masks[name].split(self.batch_size) for name in MODALITIES), strict=True):
            video, audio = (
                Tokens(tokens.values.expand(len(mask), -1, -1), tokens.keep & mask, tokens.times.expand(len(mask), -1))
                for tokens, mask in zip((self.video, self.audio), part, strict=True)
            )
            found.append(self.model.task.scores(self.model.task(self.model.fuse(video, audio)))[:, list(tags)])
        return torch.cat(found)

    @torch.inference_mode()
    def fused(self, stats: frozenset[str]) -> Fused:
        """The fusion of all tokens with attention statistics."""
        return self.model.fuse(self.video, self.audio, stats)
