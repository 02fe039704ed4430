"""Latent adapters (after LAVisH, Lin et al. 2023): a few parameters between frozen encoders.

In each layer, m latents read the other stream, the stream reads the latents, and what it read passes a narrow adapter
(D -> D / reduction -> D) scaled by a gate that starts at 0: an untrained adapter changes nothing. There is no other
block. Unlike in the paper the adapters stand after the encoders, not between their layers.
"""

from __future__ import annotations

import torch
from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.multi_head import MergedAttention
from mmattn.fusion.blocks.parts import learned_tokens, zeroed
from mmattn.fusion.blocks.transformer import check_layers
from mmattn.fusion.gated import OTHER
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, Modality, Tokens


class LatentAdapter(nn.Module):
    """From one stream's tokens to the other's, through `latents` tokens."""

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        latents: int,
        reduction: int,
        position: PositionFactory,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({side: nn.LayerNorm(dim) for side in ("own", "other")})
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.latent_attn = MergedAttention(dim, heads, attention, time_local=False, position=position)
        self.cross_attn = MergedAttention(dim, heads, attention, time_local=False, position=position)
        narrow = max(1, dim // reduction)
        self.adapter = nn.Sequential(nn.Linear(dim, narrow), nn.GELU(), nn.Linear(narrow, dim))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, stream: Modality, own: Tokens, other: Tokens) -> Tokens:
        x = own.with_values(self.norms["own"](own.values))
        y = other.with_values(self.norms["other"](other.values))
        latents = learned_tokens(self.latents, [(OTHER[stream], other)])
        update, _ = self.latent_attn([("latent", latents)], [(OTHER[stream], y)], frozenset())
        latents = latents.with_values(latents.values + update)  # there are some where the other stream is
        read, _ = self.cross_attn([(stream, x)], [("latent", latents)], frozenset())
        change = self.gate * self.adapter(read)
        return zeroed(own.values + torch.where(other.present[:, None, None], change, 0.0), own)


class AdapterFusion(Fusion):
    """`latents`: m of the paper. `reduction`: how much narrower the adapters are than the tokens."""

    reference = "Lin et al. 2023"
    weighs = None

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        latents: int = 2,
        reduction: int = 8,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if latents < 1 or reduction < 1:
            raise ValueError(f"latents={latents}, reduction={reduction}: expected 1 or more")
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: LatentAdapter(dim, heads, attention, latents, reduction, position) for name in MODALITIES}
            )
            for _ in range(check_layers(layers))
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        for pair in self.layers:
            assert isinstance(pair, nn.ModuleDict)
            video, audio = pair["video"]("video", video, audio), pair["audio"]("audio", audio, video)
        return Fused(video, audio)
