"""Perceiver latents (Jaegle et al. 2021; outputs as in Perceiver IO): N latents between the streams.

Cost O((Lv + La) N) a layer instead of O((Lv + La)^2): the streams read each other only through the latents.
"""

from __future__ import annotations

import torch
from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import Part, learned_tokens, zeroed
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Tokens


class PerceiverFusion(Fusion):
    """`latents`: N. In each of `layers` they read both streams, then themselves; at the end each stream reads them.

    Attention mass is that of the latents on the two streams.
    """

    reference = "Jaegle et al. 2021"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        latents: int = 16,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if latents < 1:
            raise ValueError(f"latents={latents}: expected 1 or more")
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        count = check_layers(layers)

        def block(name: str) -> MergedBlock:
            return MergedBlock(name, dim, heads, attention, dropout, time_local=False, position=position)

        self.encode = nn.ModuleList(block(f"perceiver.{i}") for i in range(count))
        self.process = nn.ModuleList(block(f"perceiver.{i}.latent") for i in range(count))
        self.decode = nn.ModuleDict({name: block("perceiver.out") for name in MODALITIES})

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams: list[Part] = [("video", video), ("audio", audio)]
        marked: list[Part] = [(n, zeroed(tokens.values + self.modality_embed[n], tokens)) for n, tokens in streams]
        latents: list[Part] = [("latent", learned_tokens(self.latents, streams))]
        measured: list[LayerStats] = []
        for encode, process in zip(self.encode, self.process, strict=True):
            latents, seen = encode(latents, marked, stats)
            measured += seen
            latents, _ = process(latents, latents, frozenset())
        done = {name: self.decode[name]([(name, tokens)], latents, frozenset())[0][0][1] for name, tokens in streams}
        return Fused(done["video"], done["audio"], tuple(measured))
