"""Encoders that are not trained, and that pass on the tokens of a batch that carries them (see data.features)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.types import Batch, Modality, Tokens


class _Frozen(nn.Module):
    modality: ClassVar[Modality]

    def __init__(self, encoder: VisualEncoder | AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.dim = encoder.dim
        self.train(self.training)

    def train(self, mode: bool = True) -> _Frozen:
        """Keep the encoder in eval mode: no dropout."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: Batch) -> Tokens:
        if self.modality in batch.features:
            return batch.features[self.modality]
        with torch.no_grad():
            return self.encoder(batch)


class FrozenVisual(_Frozen, VisualEncoder):
    """A frozen visual encoder, or the precomputed video tokens of the batch."""

    modality = "video"

    def __init__(self, encoder: VisualEncoder) -> None:
        super().__init__(encoder)
        self.frame_format = encoder.frame_format


class FrozenAudio(_Frozen, AudioEncoder):
    """A frozen audio encoder, or the precomputed audio tokens of the batch."""

    modality = "audio"
