"""No encoder: for models of one modality, and for the comparison with both."""

from __future__ import annotations

import torch

from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.types import Batch, Tokens


class NoEncoder(VisualEncoder, AudioEncoder):
    """One token of padding for each clip, (B, 1, dim): the modality is missing in every clip."""

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
