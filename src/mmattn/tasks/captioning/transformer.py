"""A Transformer decoder over the fused tokens (Vaswani et al. 2017, pre-norm), with a key-value cache.

The words read each other by causal softmax attention, and the clip by any mechanism that needs no times of words. All
beams of a clip ask its one memory together, so that wide searches do not copy it.

Shape legend: B clips, K beams, N = B K rows, L tokens of a caption, M tokens of the memory, H heads, D channels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.interface import Attention, AttentionFactory, Geometry
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError
from mmattn.fusion.blocks.transformer import mlp
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.interface import Captioner, Read
from mmattn.tasks.captioning.memory import MISSING, Memory, Remembered
from mmattn.tasks.captioning.search import State
from mmattn.types import Fused, Modality

KeyValue = tuple[Tensor, Tensor]


class TransformerCaptioner(Captioner):
    """`layers` blocks of `heads` heads; the output shares the words' embedding (Press & Wolf 2017)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        tokenizer: CaptionTokenizer,
        layers: int = 2,
        dropout: float = 0.1,
        max_length: int = 40,
        label_smoothing: float = 0.1,
        decoding: Decoding | None = None,
    ) -> None:
        super().__init__(tokenizer, max_length, label_smoothing, decoding or Decoding(max_length=max_length + 1))
        if layers < 1 or heads < 1 or dim % heads:
            raise UsageError(
                f"captions: expected layers and heads from 1 on, heads dividing {dim}; got {layers}, {heads}"
            )
        self.memory = Memory(dim)
        self.embed_tokens = nn.Embedding(tokenizer.size, dim)
        self.embed_positions = nn.Embedding(max_length + 1, dim)
        self.layers = nn.ModuleList([DecoderLayer(dim, heads, attention, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.embed_tokens.weight, std=dim**-0.5)
        nn.init.normal_(self.embed_positions.weight, std=dim**-0.5)

    def start(self, fused: Fused) -> State:
        return _State(self, self.memory(fused))

    def read(self, fused: Fused, tokens: Int[Tensor, "B L"], *, mass: bool = False) -> Read:
        remembered = self.memory(fused)
        x = self.dropout(self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]])
        masses: list[Tensor] = []
        for layer in self.blocks:
            x = layer.read_words(x)
            x, looked = layer.read_clip(x, layer.remember(remembered), remembered.geometry, mass=mass)
            if looked is not None:
                masses.append(looked.mean(dim=1))
        return Read(self.say(x), shares(masses, remembered.geometry) if masses else None)

    def say(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        return self.norm(x) @ self.embed_tokens.weight.T.to(x.dtype)

    @property
    def blocks(self) -> list[DecoderLayer]:
        return list(self.layers)  # type: ignore[arg-type]


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
        return x + self.dropout(self.self_attn(self.norm1(x), cache, t))

    def remember(self, memory: Remembered) -> KeyValue:
        return self.cross_attn.remember(memory.values)

    def read_clip(
        self, x: Float[Tensor, "B L D"], memory: KeyValue, geometry: Geometry, *, mass: bool = False
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B H L S"] | None]:
        """The words after cross-attention and MLP, and the mass as of ClipAttention."""
        read, looked = self.cross_attn(self.norm2(x), memory, geometry, mass=mass)
        x = x + self.dropout(read)
        return x + self.mlp(self.norm3(x)), looked


class CausalSelfAttention(nn.Module):
    """Each word reads those before it and itself."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "N L D"], cache: KeyValue | None = None, t: int = 0) -> Float[Tensor, "N L D"]:
        """`cache`: keys and values of the words before t; x is word t alone, whose key and value are written there."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0][:, :, t : t + 1], cache[1][:, :, t : t + 1] = k, v
            k, v = (part[:, :, : t + 1] for part in cache)
        read = scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        return self.out_proj(read.transpose(1, 2).flatten(2))


class ClipAttention(nn.Module):
    """Words read the clip's tokens by a mechanism of attention/."""

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, memory_dim: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.kv_proj = nn.Linear(memory_dim or dim, 2 * dim)
        self.attention: Attention = attention(heads, dim // heads)
        self.out_proj = nn.Linear(dim, dim)
        self._check()

    def remember(self, values: Float[Tensor, "B M D"]) -> KeyValue:
        k, v = self.kv_proj(values).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def forward(
        self, x: Float[Tensor, "B L D"], memory: KeyValue, geometry: Geometry, *, mass: bool = False
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B H L S"] | None]:
        """What each word reads and, if asked for and known to the mechanism, its mass on the memory's segments."""
        stats = frozenset({"mass"}) & self.attention.supports if mass else frozenset()
        q = self.q_proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        out = self.attention(q, *memory, Geometry(), geometry, stats)
        return self.out_proj(out.out.transpose(1, 2).flatten(2)), out.stats.get("mass")

    def _check(self) -> None:
        """Words have no time of their own. Raises UsageError for a mechanism that needs one."""
        size = self.out_proj.in_features // self.heads
        q, k = torch.zeros(1, self.heads, 1, size), torch.zeros(1, self.heads, 4, size)
        seen = Geometry(torch.ones(1, 4, dtype=torch.bool), torch.arange(4.0)[None], (("video", 2), ("audio", 2)))
        try:
            with torch.no_grad():
                self.attention(q, k, k, Geometry(), seen)
        except (ValueError, TypeError, AttributeError, AssertionError) as error:
            name = type(self.attention).__name__
            raise UsageError(f"captions: {name} cannot be what words read the clip with ({error})") from None


def shares(masses: list[Float[Tensor, "B L S"]], geometry: Geometry) -> dict[Modality, Float[Tensor, "B L"]]:
    """Mean over layers, of what lies on real tokens of the two modalities."""
    mean = torch.stack(masses).mean(dim=0).float()
    by_name = {name: mean[..., i] for i, (name, _) in enumerate(geometry.segments) if name != MISSING}
    total = sum(by_name.values())
    assert isinstance(total, Tensor)
    return {name: mass / total.clamp(min=1e-9) for name, mass in by_name.items()}  # type: ignore[return-value]


class _State(State):
    def __init__(self, model: TransformerCaptioner, memory: Remembered) -> None:
        self.model = model
        memory = memory.trimmed()
        # They are read once for every word, so it pays to lay them out by head.
        self.memory = [(k.contiguous(), v.contiguous()) for k, v in (b.remember(memory) for b in model.blocks)]
        keep = None if bool(memory.keep.all()) else memory.keep
        self.geometry = replace(memory.geometry, keep=keep)
        self.clips, self.beams, self.t = len(memory.keep), 1, 0
        self.before: list[KeyValue] = []

    def expand(self, beams: int) -> None:
        self.beams = beams

    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        model = self.model
        x = (model.embed_tokens(tokens) + model.embed_positions.weight[self.t])[:, None]  # (N, 1, D)
        if not self.before:
            self.before = [self._room(x, layer) for layer in model.blocks]
        for layer, memory, before in zip(model.blocks, self.memory, self.before, strict=True):
            x = layer.read_words(x, before, self.t)
            x, _ = layer.read_clip(x.view(self.clips, self.beams, -1), memory, self.geometry)
            x = x.view(len(tokens), 1, -1)
        self.t += 1
        return model.say(x[:, 0])

    def _room(self, x: Tensor, layer: DecoderLayer) -> KeyValue:
        shape = (len(x), layer.self_attn.heads, self.model.max_length + 1, x.shape[2] // layer.self_attn.heads)
        kind = self.memory[0][0].dtype
        return x.new_empty(shape, dtype=kind), x.new_empty(shape, dtype=kind)

    def reorder(self, rows: Tensor) -> None:
        self._take(rows)

    def keep(self, clips: Tensor) -> None:
        self.memory = [(k[clips], v[clips]) for k, v in self.memory]
        self.geometry = self.geometry.of_clips(clips)
        self._take(clips.repeat_interleave(self.beams))
        self.clips = int(clips.sum())

    def _take(self, rows: Tensor) -> None:
        """Only what was written is copied."""
        for i, (k, v) in enumerate(self.before):
            kept = [part[:, :, : self.t][rows] for part in (k, v)]
            room = [part.new_empty((len(kept[0]), *part.shape[1:])) for part in (k, v)]
            for part, old in zip(room, kept, strict=True):
                part[:, :, : self.t] = old
            self.before[i] = (room[0], room[1])
