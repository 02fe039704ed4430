"""A Transformer decoder over the fused tokens (Vaswani et al. 2017, pre-norm), with a key-value cache.

Words attend to each other by causal softmax attention, and to the clip by any mechanism that needs no times of words.
All beams of a clip share its memory, so that wide searches do not copy it.

Shape legend: B clips, K beams, N = B K rows, L tokens of a caption, D channels, V tokens of the vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.errors import UsageError
from mmattn.tasks.captioning.clip_attention import KeyValue, modality_shares
from mmattn.tasks.captioning.decoder_layer import DecoderLayer
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.interface import Captioner, Read
from mmattn.tasks.captioning.memory import ClipMemory, Memory
from mmattn.tasks.captioning.search import State
from mmattn.types import Fused


class TransformerCaptioner(Captioner):
    """`layers` layers of `heads` heads; the output is tied to the word embedding (Press & Wolf 2017)."""

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
                f"captions: expected layers and heads of 1 or more, and heads that divide {dim}; got {layers}, {heads}"
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
        memory = self.memory(fused)
        x = self.dropout(self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]])
        masses: list[Tensor] = []
        for layer in self.blocks:
            x = layer.read_words(x)
            keys_values = layer.cross_attn.keys_values(memory.values)
            x, on_segments = layer.read_clip(x, keys_values, memory.geometry, mass=mass)
            if on_segments is not None:
                masses.append(on_segments.mean(dim=1))
        return Read(self.logits(x), modality_shares(masses, memory.geometry) if masses else None)

    def logits(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Project to the vocabulary with the tied embedding."""
        return self.norm(x) @ self.embed_tokens.weight.T.to(x.dtype)

    @property
    def blocks(self) -> list[DecoderLayer]:
        """The layers, typed."""
        return list(self.layers)  # type: ignore[arg-type]


class _State(State):
    def __init__(self, model: TransformerCaptioner, memory: ClipMemory) -> None:
        self.model = model
        memory = memory.trimmed()
        # Every word reads them, so a contiguous layout by head pays off.
        projected = [layer.cross_attn.keys_values(memory.values) for layer in model.blocks]
        self.memory = [(k.contiguous(), v.contiguous()) for k, v in projected]
        keep = None if bool(memory.keep.all()) else memory.keep
        self.geometry = replace(memory.geometry, keep=keep)
        self.clips, self.beams, self.t = len(memory.keep), 1, 0
        self.cache: list[KeyValue] = []

    def expand(self, beams: int) -> None:
        self.beams = beams

    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        model = self.model
        x = (model.embed_tokens(tokens) + model.embed_positions.weight[self.t])[:, None]  # (N, 1, D)
        if not self.cache:
            self.cache = [self._empty_cache(x, layer) for layer in model.blocks]
        for layer, memory, cache in zip(model.blocks, self.memory, self.cache, strict=True):
            x = layer.read_words(x, cache, self.t)
            x, _ = layer.read_clip(x.view(self.clips, self.beams, -1), memory, self.geometry)
            x = x.view(len(tokens), 1, -1)
        self.t += 1
        return model.logits(x[:, 0])

    def _empty_cache(self, x: Tensor, layer: DecoderLayer) -> KeyValue:
        shape = (len(x), layer.self_attn.heads, self.model.max_length + 1, x.shape[2] // layer.self_attn.heads)
        dtype = self.memory[0][0].dtype
        return x.new_empty(shape, dtype=dtype), x.new_empty(shape, dtype=dtype)

    def reorder(self, rows: Tensor) -> None:
        self._select(rows)

    def keep(self, clips: Tensor) -> None:
        self.memory = [(k[clips], v[clips]) for k, v in self.memory]
        self.geometry = self.geometry.of_clips(clips)
        self._select(clips.repeat_interleave(self.beams))
        self.clips = int(clips.sum())

    def _select(self, rows: Tensor) -> None:
        """Reorder the cache, copying only the steps written so far."""
        for i, (k, v) in enumerate(self.cache):
            kept = [part[:, :, : self.t][rows] for part in (k, v)]
            new = [part.new_empty((len(kept[0]), *part.shape[1:])) for part in (k, v)]
            for part, old in zip(new, kept, strict=True):
                part[:, :, : self.t] = old
            self.cache[i] = (new[0], new[1])
