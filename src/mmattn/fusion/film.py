"""Feature-wise linear modulation (FiLM, Perez et al. 2018): each stream scales and shifts the other's channels.

In every block of a stream, LN x becomes (1 + gamma) * LN x + beta with (gamma, beta) a linear function of the mean of
the other stream's tokens. If the other modality is missing, nothing is modulated.
"""

from __future__ import annotations

import torch
from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.multi_head import MergedAttention
from mmattn.fusion.blocks.parts import masked_mean, zeroed
from mmattn.fusion.blocks.transformer import check_layers, mlp
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, Modality, Tokens


class FiLMBlock(nn.Module):
    """Pre-norm transformer block whose two normalisations are modulated by `context` (B, D)."""

    def __init__(
        self, dim: int, heads: int, attention: AttentionFactory, dropout: float, position: PositionFactory
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.context_norm = nn.LayerNorm(dim)
        self.modulation = nn.Linear(dim, 4 * dim)  # gamma and beta of both
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        self.attn = MergedAttention(dim, heads, attention, position=position)
        self.mlp = mlp(dim, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Modality, own: Tokens, other: Tokens) -> Tokens:
        context = self.modulation(self.context_norm(masked_mean(other)))
        context = torch.where(other.present[:, None], context, 0.0)[:, None]
        gamma1, beta1, gamma2, beta2 = context.chunk(4, dim=-1)
        x = own.with_values((1 + gamma1) * self.norm1(own.values) + beta1)
        read, _ = self.attn([(stream, x)], [(stream, x)], frozenset())
        values = own.values + self.dropout(read)
        values = values + self.mlp((1 + gamma2) * self.norm2(values) + beta2)
        return zeroed(values, own)


class FiLMFusion(Fusion):
    """`layers` FiLM blocks a stream, each modulated by the mean of the other stream."""

    reference = "Perez et al. 2018"
    weighs = None

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
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: FiLMBlock(dim, heads, attention, dropout, position) for name in MODALITIES})
            for _ in range(check_layers(layers))
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        for pair in self.blocks:
            assert isinstance(pair, nn.ModuleDict)
            video, audio = pair["video"]("video", video, audio), pair["audio"]("audio", audio, video)
        return Fused(video, audio)
