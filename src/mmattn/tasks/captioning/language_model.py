"""A language model of the transformers library as the caption decoder, frozen, with LoRA or fine-tuned.

It reads the clip in one of two ways: as a few learned summaries before the caption (prefix tuning of ClipCap, Mokady et
al. 2021, with a Perceiver resampler's queries), or through gated cross-attention before its blocks (Flamingo, Alayrac
et al. 2022). Either way the clip is read by a mechanism of attention/.

Shape legend: B clips, K beams, N = B K rows, L tokens of a caption, E channels of the language model, P summaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory, Geometry
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.encoders.pretrained.adapt import Lora, Mode, add_adapters
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.weights import locate, read_json
from mmattn.errors import UsageError
from mmattn.fusion.blocks.transformer import mlp
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.interface import Captioner, Read
from mmattn.tasks.captioning.memory import Memory, Remembered
from mmattn.tasks.captioning.search import State
from mmattn.tasks.captioning.transformer import ClipAttention, shares
from mmattn.types import Fused

Reads = Literal["prefix", "cross"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {
    "gpt2": Family("GPT-2", "gpt2", "GPT2Config", "GPT2LMHeadModel"),
    "llama": Family("Llama", "llama", "LlamaConfig", "LlamaForCausalLM"),
    "qwen2": Family("Qwen2", "qwen2", "Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3", "qwen3", "Qwen3Config", "Qwen3ForCausalLM"),
}
_WANTED = "the config.json, tokenizer.json and *.safetensors of a language model into one folder"


def caption_tokenizer(
    captions: Iterable[str], pretrained: str | None, hub: bool, size: int, lowercase: bool
) -> CaptionTokenizer:
    """The one that lies beside the language model, or byte-level pieces learned from `captions`. Raises UsageError."""
    if pretrained is None:
        return CaptionTokenizer.learn(captions, "bpe", size, lowercase)
    folder = locate(pretrained, hub, _WANTED)
    file, config = folder / "tokenizer.json", read_json(folder / "config.json")
    if not file.is_file():
        raise UsageError(f"{folder}: holds no tokenizer.json; download {_WANTED}")
    eos = config.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) else eos
    marks = {"eos": eos, "bos": eos if config.get("bos_token_id") is None else config["bos_token_id"]}
    record = {"definition": file.read_text(encoding="utf-8"), "kind": "bpe", "pad": eos, "lowercase": False, **marks}
    try:
        return CaptionTokenizer.from_dict(record)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{folder}: its tokenizer cannot be used ({error})") from None


class LanguageModelCaptioner(Captioner):
    """`mode`: what of the language model is trained; what reads the clip always is. `dtype`: of a frozen one.

    `from_files`: its weights came from a folder.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        tokenizer: CaptionTokenizer,
        kind: str = "gpt2",
        pretrained: str | None = None,
        hub: bool = False,
        architecture: Mapping[str, Any] | None = None,
        reads: Reads = "prefix",
        prefix: int = 16,
        every: int = 1,
        mode: Mode = "finetune",
        dtype: str = "float32",
        lora: Mapping[str, Any] | None = None,
        max_length: int = 40,
        label_smoothing: float = 0.1,
        decoding: Decoding | None = None,
    ) -> None:
        super().__init__(tokenizer, max_length, label_smoothing, decoding or Decoding(max_length=max_length + 1))
        if kind not in KINDS:
            raise UsageError(f"captions.kind={kind}: expected {', '.join(KINDS)}")
        for name, value, choices in (("reads", reads, get_args(Reads)), ("mode", mode, get_args(Mode))):
            if value not in choices:
                raise UsageError(f"captions.{name}={value}: expected {', '.join(choices)}")
        if dtype not in DTYPES or (dtype != "float32" and mode != "frozen"):
            raise UsageError(f"captions.dtype={dtype}: expected float32, or bfloat16 with captions.mode=frozen")
        if prefix < 1 or every < 1:
            raise UsageError(f"captions: expected prefix and every from 1 on, got {prefix} and {every}")
        marks = {"vocab_size": tokenizer.size, "bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
        own = {**marks, "pad_token_id": tokenizer.pad, **(architecture or {})}
        built = build_model(KINDS[kind], pretrained, hub, own)
        self.resolved = {"architecture": built.architecture}
        self.mode: Mode = mode
        self.from_files = pretrained is not None
        self.reads: Reads = reads
        self.language = built.model
        room, needed = self.language.config.max_position_embeddings, max_length + 1 + prefix * (reads == "prefix")
        if room < needed:
            raise UsageError(
                f"captions: the language model has {room} positions, and prefix and max_length need {needed}"
            )
        words, width = self.language.get_input_embeddings().weight.shape
        if words < tokenizer.size:
            raise UsageError(
                f"captions: the tokenizer has {tokenizer.size} tokens, and the language model knows {words}; "
                "its tokenizer.json is of another model"
            )
        if mode == "frozen":
            self.language.requires_grad_(False).to(DTYPES[dtype])
        elif mode == "lora":
            add_adapters(
                self.language.base_model, Lora(**{**(lora or {}), "targets": tuple((lora or {}).get("targets") or ())})
            )
            self.language.requires_grad_(False)
            for name, parameter in self.language.named_parameters():
                parameter.requires_grad_("lora_" in name)
        self.memory = Memory(dim)
        if reads == "prefix":
            self.summaries = Summaries(dim, heads, attention, prefix, width)
        else:
            blocks = _blocks(self.language)[::every]
            self.gates = nn.ModuleList([Gate(width, dim, heads, attention) for _ in blocks])
            for block, gate in zip(blocks, self.gates, strict=True):
                block.register_forward_pre_hook(_Before(gate), with_kwargs=True)  # type: ignore[arg-type]
        self.train(self.training)

    def train(self, mode: bool = True) -> LanguageModelCaptioner:
        """A language model that is not fine-tuned stays in eval mode: none of its own dropout."""
        super().train(mode)
        if self.mode != "finetune":
            self.language.eval()
            for name, module in self.language.named_modules():
                if "lora_dropout" in name:
                    module.train(mode)
        return self

    def start(self, fused: Fused) -> State:
        return _State(self, self.memory(fused))

    def read(self, fused: Fused, tokens: Int[Tensor, "B L"], *, mass: bool = False) -> Read:
        remembered = self.memory(fused)
        if self.reads == "prefix":
            given = torch.cat([self.summaries(remembered), self.embed(tokens)], dim=1)
            logits = self.language(inputs_embeds=given.to(self.language.dtype), use_cache=False).logits
            return Read(logits[:, -tokens.shape[1] :])
        looking = [gate.look(remembered, mass=mass) for gate in self.gate_list]
        with self.looking(looking):
            logits = self.language(inputs_embeds=self.embed(tokens), use_cache=False).logits
        masses = [each.mass.mean(dim=1) for each in looking if each.mass is not None]
        return Read(logits, shares(masses, remembered.geometry) if masses else None)

    def embed(self, tokens: Tensor) -> Tensor:
        return self.language.get_input_embeddings()(tokens)

    @property
    def gate_list(self) -> list[Gate]:
        return list(self.gates)  # type: ignore[arg-type]

    @contextmanager
    def looking(self, looking: list[Looking]) -> Iterator[None]:
        """What the gates look at while the language model runs."""
        try:
            for gate, each in zip(self.gate_list, looking, strict=True):
                gate.now = each
            yield
        finally:
            for gate in self.gate_list:
                gate.now = None


class Summaries(nn.Module):
    """P learned latents read the clip; the language model reads them before the caption."""

    def __init__(self, dim: int, heads: int, attention: AttentionFactory, prefix: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(prefix, dim) * 0.02)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn = ClipAttention(dim, heads, attention)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim, mlp_ratio=4)
        self.proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))

    def forward(self, memory: Remembered) -> Float[Tensor, "B P E"]:
        x = self.latents.expand(len(memory.values), -1, -1)
        x = x + self.cross_attn(self.norm1(x), self.cross_attn.remember(memory.values), memory.geometry)[0]
        return self.proj(x + self.mlp(self.norm2(x)))


@dataclass
class Looking:
    """What a gate looks at in one run of the language model, for `beams` rows a clip, and the mass that it found."""

    memory: tuple[Tensor, Tensor]
    geometry: Geometry
    wants_mass: bool = False
    beams: int = 1
    mass: Tensor | None = None


class Gate(nn.Module):
    """x + tanh(a) attention(x, clip), then x + tanh(b) MLP(x); both gates begin at 0, which leaves x as it is."""

    def __init__(self, width: int, dim: int, heads: int, attention: AttentionFactory) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"captions: heads={heads} do not divide the language model's {width} channels")
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = ClipAttention(width, heads, attention, memory_dim=dim)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)
        self.gates = nn.Parameter(torch.zeros(2))
        self.now: Looking | None = None

    def look(self, memory: Remembered, *, mass: bool = False) -> Looking:
        return Looking(self.cross_attn.remember(memory.values), memory.geometry, mass)

    def forward(self, x: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        assert self.now is not None, "the language model runs only within `looking`"
        rows, length, beams = len(x), x.shape[1], self.now.beams
        asked = x.reshape(rows // beams, beams * length, -1)  # all beams of a clip ask its one memory
        asked = asked.to(self.gates.dtype)
        now = self.now
        read, now.mass = self.cross_attn(self.norm1(asked), now.memory, now.geometry, mass=now.wants_mass)
        asked = asked + torch.tanh(self.gates[0]) * read
        asked = asked + torch.tanh(self.gates[1]) * self.mlp(self.norm2(asked))
        return asked.view(rows, length, -1).to(x.dtype)


class _Before:
    """A hook that puts a gate before a block, whichever way the block is given its input."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (self.gate(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.gate(kwargs["hidden_states"])}


def _blocks(language: Any) -> list[nn.Module]:
    """The transformer's blocks, whose list is its longest one."""
    lists = [module for module in language.base_model.children() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len))


class _State(State):
    """The library's own key-value cache. The clip's summaries are read once a clip, before there are beams."""

    def __init__(self, model: LanguageModelCaptioner, memory: Remembered) -> None:
        from transformers import DynamicCache

        self.model = model
        self.cache = DynamicCache(config=model.language.config)
        self.clips, self.beams, self.begun = len(memory.values), 1, False
        self.prefix = model.summaries(memory) if model.reads == "prefix" else None
        self.looking = [gate.look(memory) for gate in model.gate_list] if model.reads == "cross" else []

    def expand(self, beams: int) -> None:
        self.beams = beams

    def step(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        if self.begun:
            return self._run(self.model.embed(tokens)[:, None], self.beams)
        self.begun = True
        given = self.model.embed(tokens[:: self.beams])[:, None]
        if self.prefix is not None:
            given = torch.cat([self.prefix, given], dim=1)
        logits = self._run(given, 1)
        if self.beams > 1:
            self.cache.batch_repeat_interleave(self.beams)
        return logits.repeat_interleave(self.beams, dim=0)

    def _run(self, given: Tensor, beams: int) -> Tensor:
        if self.model.reads == "prefix":
            return self._logits(given)
        for each in self.looking:
            each.beams = beams
        with self.model.looking(self.looking):
            return self._logits(given)

    def _logits(self, given: Tensor) -> Tensor:
        given = given.to(self.model.language.dtype)
        told = self.model.language(inputs_embeds=given, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return told.logits[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]

    def keep(self, clips: Tensor) -> None:
        self.cache.batch_select_indices(clips.repeat_interleave(self.beams).nonzero()[:, 0])
        for each in self.looking:
            each.memory = (each.memory[0][clips], each.memory[1][clips])
            each.geometry = each.geometry.of_clips(clips)
        self.clips = int(clips.sum())
