"""Which tokens a tag's score depends on (causal), and which it looks at (descriptive). One clip at a time.

A token is taken away as a missing modality is: by its keep mask. So it is the model's own idea of not having it.
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
    """Both streams of one clip (B = 1), encoded once; scores under any choice of its tokens."""

    model: AVModel
    video: Tokens
    audio: Tokens
    batch_size: int = 64

    def stream(self, name: Modality) -> Tokens:
        return self.video if name == "video" else self.audio

    def keep(self) -> dict[Modality, Bool[Tensor, " L"]]:
        """Which tokens are real."""
        return {name: self.stream(name).keep[0] for name in MODALITIES}

    @torch.inference_mode()
    def scores(self, masks: dict[Modality, Bool[Tensor, "N L"]], tags: Sequence[int]) -> Float[Tensor, "N K"]:
        """Of `tags`, with only those tokens that a mask keeps."""
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
        return self.model.fuse(self.video, self.audio, stats)
