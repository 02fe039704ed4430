"""The clip as learned prefix tokens before the caption (prefix tuning of ClipCap, Mokady et al. 2021)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.fusion.blocks.transformer import mlp
from mmattn.tasks.captioning.clip_attention import ClipAttention
from mmattn.tasks.captioning.memory import ClipMemory


class Summaries(nn.Module):
    """P learned latents attend to the clip (a Perceiver resampler); the language model reads them before the caption.

    Memory of B clips -> (B, P, width).
    """

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, prefix: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(prefix, dim) * 0.02)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = ClipAttention(dim, heads, attention)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, mlp_ratio=4)
        self.proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))

    def forward(self, memory: ClipMemory) -> Float[Tensor, "B P E"]:
        x = self.latents.expand(len(memory.values), -1, -1)
        keys_values = self.cross_attn.keys_values(memory.values)
        x = x + self.cross_attn(self.norm1(x), keys_values, memory.geometry)[0]
        return self.proj(x + self.mlp(self.norm2(x)))
