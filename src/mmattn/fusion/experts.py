"""Mixture of modality experts (VLMo, Bao et al. 2022; the multiway transformer of BEiT-3).

Both streams share the attention of a block; each modality has its own MLP, its expert. In the last `joint_layers`
blocks one MLP serves both.
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


class ExpertsFusion(Fusion):
    """`joint_layers`: how many of `layers`, at the end, have one expert for both modalities."""

    reference = "Bao et al. 2022"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        joint_layers: int = 0,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if not 0 <= joint_layers <= layers:
            raise ValueError(f"joint_layers={joint_layers}: expected 0 to layers={layers}")
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.blocks = nn.ModuleList(
            MergedBlock(
                f"experts.{i}",
                dim,
                heads,
                attention,
                dropout,
                MODALITIES if i < layers - joint_layers else (),
                position=position,
            )
            for i in range(check_layers(layers))
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        parts: list[Part] = [
            (name, zeroed(tokens.values + self.modality_embed[name], tokens))
            for name, tokens in (("video", video), ("audio", audio))
        ]
        measured: list[LayerStats] = []
        for block in self.blocks:
            parts, seen = block(parts, parts, stats)
            measured += seen
        return Fused(parts[0][1], parts[1][1], tuple(measured))
