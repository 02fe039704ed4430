"""A language model of the transformers library as the caption decoder, frozen, with LoRA or fine-tuned.

It gets the clip as prefix tokens before the caption (see `prefix`) or through gated cross-attention before its blocks
(see `gate`). Both attend to the clip with a mechanism of mmattn.attention.

Shape legend: B clips, L tokens of a caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.data.prepare.tokenizer import CaptionTokenizer
from mmattn.encoders.pretrained.adapt import Lora, Mode, add_adapters, train_adapters
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.errors import UsageError
from mmattn.tasks.captioning.clip_attention import modality_shares
from mmattn.tasks.captioning.decoding import Decoding
from mmattn.tasks.captioning.interface import Captioner, Read
from mmattn.tasks.captioning.language_model.gate import Gate, GateHook, gate_inputs
from mmattn.tasks.captioning.language_model.prefix import Summaries
from mmattn.tasks.captioning.language_model.state import LanguageModelState
from mmattn.tasks.captioning.memory import Memory
from mmattn.tasks.captioning.search import State
from mmattn.types import Fused

Reads = Literal["prefix", "cross"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {
    "gpt2": Family("GPT-2", "gpt2", "GPT2Config", "GPT2LMHeadModel"),
    "llama": Family("Llama", "llama", "LlamaConfig", "LlamaForCausalLM"),
    "qwen2": Family("Qwen2", "qwen2", "Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": Family("Qwen3", "qwen3", "Qwen3Config", "Qwen3ForCausalLM"),
}


class LanguageModelCaptioner(Captioner):
    """`mode`: how the language model is trained; the layers that attend to the clip always are.

    `reads`: prefix tokens, or cross-attention before every `every`-th block. `dtype`: that of a frozen model.
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
        _check_settings(kind, reads, mode, dtype)
        if prefix < 1 or every < 1:
            raise UsageError(f"captions: expected prefix and every of 1 or more, got {prefix} and {every}")
        marks = {"vocab_size": tokenizer.size, "bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
        own = {**marks, "pad_token_id": tokenizer.pad, **(architecture or {})}
        built = build_model(KINDS[kind], pretrained, hub, own)
        self.resolved = {"architecture": built.architecture}
        self.mode: Mode = mode
        self.from_files = pretrained is not None
        self.reads: Reads = reads
        self.language = built.model
        self._check_sizes(prefix * (reads == "prefix"))
        self._set_trained(mode, DTYPES[dtype], lora)
        self.memory = Memory(dim)
        self._add_readers(dim, heads, attention, prefix, every)
        self.train(self.training)

    def _check_sizes(self, prefix: int) -> None:
        """Raises UsageError if the language model is too small for the captions or the tokenizer."""
        positions, needed = self.language.config.max_position_embeddings, self.max_length + 1 + prefix
        if positions < needed:
            raise UsageError(
                f"captions: the language model has {positions} positions, but prefix and max_length need {needed}"
            )
        words = len(self.language.get_input_embeddings().weight)
        if words < self.tokenizer.size:
            raise UsageError(
                f"captions: the tokenizer has {self.tokenizer.size} tokens, but the language model only {words}; "
                "use the tokenizer.json of this model"
            )

    def _set_trained(self, mode: Mode, dtype: torch.dtype, lora: Mapping[str, Any] | None) -> None:
        if mode == "frozen":
            self.language.requires_grad_(False).to(dtype)
        elif mode == "lora":
            add_adapters(self.language.base_model, Lora.from_config(lora))
            for name, parameter in self.language.named_parameters():
                parameter.requires_grad_("lora_" in name)

    def _add_readers(self, dim: int, heads: int, attention: AttentionFactory, prefix: int, every: int) -> None:
        """The layers that attend to the clip."""
        width = self.language.get_input_embeddings().weight.shape[1]
        if self.reads == "prefix":
            self.summaries = Summaries(dim, heads, attention, prefix, width)
            return
        blocks = _blocks(self.language)[::every]
        self.gates = nn.ModuleList([Gate(width, dim, heads, attention) for _ in blocks])
        for block, gate in zip(blocks, self.gate_list, strict=True):
            block.register_forward_pre_hook(GateHook(gate), with_kwargs=True)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> LanguageModelCaptioner:
        """Unless it is fine-tuned, the language model stays in eval mode: no dropout of its own."""
        super().train(mode)
        if self.mode != "finetune":
            train_adapters(self.language, mode)
        return self

    def start(self, fused: Fused) -> State:
        memory, gates = self.memory(fused), self.gate_list
        prefix = self.summaries(memory) if self.reads == "prefix" else None
        return LanguageModelState(self.language, prefix, gates, [gate.prepare(memory) for gate in gates])

    def read(self, fused: Fused, tokens: Int[Tensor, "B L"], *, mass: bool = False) -> Read:
        memory = self.memory(fused)
        if self.reads == "prefix":
            embedded = torch.cat([self.summaries(memory), self.embed(tokens)], dim=1)
            logits = self.language(inputs_embeds=embedded.to(self.language.dtype), use_cache=False).logits
            return Read(logits[:, -tokens.shape[1] :])
        gates = self.gate_list
        inputs = [gate.prepare(memory, mass=mass) for gate in gates]
        with gate_inputs(gates, inputs):
            logits = self.language(inputs_embeds=self.embed(tokens), use_cache=False).logits
        masses = [each.mass.mean(dim=1) for each in inputs if each.mass is not None]
        return Read(logits, modality_shares(masses, memory.geometry) if masses else None)

    def embed(self, tokens: Tensor) -> Tensor:
        """The input embeddings of the language model."""
        return self.language.get_input_embeddings()(tokens)

    @property
    def gate_list(self) -> list[Gate]:
        """The gates, one for each block with cross-attention; none with reads=prefix."""
        return list(self.gates) if self.reads == "cross" else []  # type: ignore[arg-type]


def _check_settings(kind: str, reads: str, mode: str, dtype: str) -> None:
    settings = (("kind", kind, KINDS), ("reads", reads, get_args(Reads)), ("mode", mode, get_args(Mode)))
    for name, value, choices in settings:
        if value not in choices:
            raise UsageError(f"captions.{name}={value}: expected {', '.join(choices)}")
    if dtype not in DTYPES or (dtype != "float32" and mode != "frozen"):
        raise UsageError(f"captions.dtype={dtype}: expected float32, or bfloat16 with captions.mode=frozen")


def _blocks(language: Any) -> list[nn.Module]:
    """The transformer's blocks: its longest list of modules."""
    lists = [module for module in language.base_model.children() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len))
