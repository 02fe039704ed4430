"""Early fusion: both streams as one sequence under one transformer, as in UNITER (Chen et al. 2020).

The weights are shared by both modalities; a learned vector says which one a token is of.
"""

from __future__ import annotations

import torch
from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import Part, zeroed
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Tokens


class ConcatFusion(Fusion):
    """`layers` blocks over both streams as one sequence, with a learned embedding of the modality."""

    reference = "Chen et al. 2020"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.blocks = nn.ModuleList(
            MergedBlock(f"concat.{i}", dim, heads, attention, dropout, position=position)
            for i in range(check_layers(layers))
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        parts: list[Part] = [("video", self._marked("video", video)), ("audio", self._marked("audio", audio))]
        measured: list[LayerStats] = []
        for block in self.blocks:
            parts, seen = block(parts, parts, stats)
            measured += seen
        return Fused(parts[0][1], parts[1][1], tuple(measured))

    def _marked(self, name: str, tokens: Tokens) -> Tokens:
        return zeroed(tokens.values + self.modality_embed[name], tokens)
