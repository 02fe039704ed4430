"""A layer of the built-in caption decoder.

Shape legend: B clips, K beams, N = B K rows, L tokens of a caption, S segments of the memory, H heads, D channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.interface import AttentionFactory, Geometry
from mmattn.fusion.blocks.transformer import mlp
from mmattn.tasks.captioning.clip_attention import ClipAttention, KeyValue


class DecoderLayer(nn.Module):
    """Pre-norm: x + self-attention, x + cross-attention over the clip, x + MLP."""

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = CausalSelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attn = ClipAttention(dim, heads, attention)
        self.norm3 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, dropout, mlp_ratio=4)
        self.dropout = nn.Dropout(dropout)

    def read_words(
        self, x: Float[Tensor, "N L D"], cache: KeyValue | None = None, t: int = 0
    ) -> Float[Tensor, "N L D"]:
        """The words after self-attention; `cache` and `t` as in CausalSelfAttention."""
        return x + self.dropout(self.self_attn(self.norm1(x), cache, t))

    def read_clip(
        self, x: Float[Tensor, "B L D"], memory: KeyValue, geometry: Geometry, *, mass: bool = False
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B H L S"] | None]:
        """The words after cross-attention and MLP, and the mass of ClipAttention."""
        read, on_segments = self.cross_attn(self.norm2(x), memory, geometry, mass=mass)
        x = x + self.dropout(read)
        return x + self.mlp(self.norm3(x)), on_segments


class CausalSelfAttention(nn.Module):
    """Each word attends to itself and the words before it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "N L D"], cache: KeyValue | None = None, t: int = 0) -> Float[Tensor, "N L D"]:
        """With a `cache` of keys and values, x is only word t; its key and value are written into the cache."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0][:, :, t : t + 1], cache[1][:, :, t : t + 1] = k, v
            k, v = (part[:, :, : t + 1] for part in cache)
        read = scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        return self.out_proj(read.transpose(1, 2).flatten(2))
