"""The recurrent baseline: both streams in order of time through a bidirectional GRU (Cho et al. 2014), no attention."""

from __future__ import annotations

import torch
from torch import nn

from mmattn.attention.recurrent.network import GRU
from mmattn.fusion.blocks.parts import concatenate, zeroed
from mmattn.fusion.blocks.transformer import check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, Tokens


class RecurrentFusion(Fusion):
    """Tokens of both streams, marked by modality and merged by time, are read forwards and backwards.

    Each token gets the states at its place added. `layers`: of the GRU.
    """

    reference = "Cho et al. 2014"
    weighs = None

    def __init__(self, dim: int, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim}: the GRU uses half of the channels in each direction, so dim has to be even")
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.norm = nn.LayerNorm(dim)
        self.gru = GRU(dim, dim // 2, check_layers(layers), dropout)
        self.out_proj = nn.Linear(dim, dim)

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams = [("video", video), ("audio", audio)]
        marked = [(n, tokens.with_values(self.norm(tokens.values) + self.modality_embed[n])) for n, tokens in streams]
        merged = concatenate(marked)
        # Padding goes to the end, where what comes of it is not read.
        order = torch.where(merged.keep, merged.times, torch.inf).argsort(dim=1, stable=True)[..., None]
        counts = merged.keep.sum(dim=1).clamp(min=1)
        states, _ = self.gru(merged.values.take_along_dim(order, dim=1), counts)
        updates = self.out_proj(states).take_along_dim(order.argsort(dim=1), dim=1)
        parts = updates.split([tokens.keep.shape[1] for _, tokens in streams], dim=1)
        done = [zeroed(tokens.values + part, tokens) for (_, tokens), part in zip(streams, parts, strict=True)]
        return Fused(done[0], done[1])
