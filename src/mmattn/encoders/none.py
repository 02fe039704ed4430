"""No encoder: for models of one modality alone, and as the other side of a comparison with both."""

from __future__ import annotations

import torch

from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.types import Batch, Tokens


class NoEncoder(VisualEncoder, AudioEncoder):
    """Any batch -> one token of padding a clip, (B, 1, dim): the modality is missing in every clip."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, batch: Batch) -> Tokens:
        shape, device = (len(batch), 1), batch.frame_keep.device
        return Tokens(
            torch.zeros(*shape, self.dim, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.zeros(shape, device=device),
        )
