"""Gated cross-attention before the blocks of a language model (Flamingo, Alayrac et al. 2022).

Shape legend: N = B K rows of K beams, L tokens of a caption, E channels of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory, Geometry
from mmattn.errors import UsageError
from mmattn.fusion.blocks.transformer import mlp
from mmattn.tasks.captioning.clip_attention import ClipAttention, KeyValue
from mmattn.tasks.captioning.memory import ClipMemory


@dataclass
class GateInput:
    """The clips for a gate in one run of the language model, with `beams` rows each; the gate sets `mass`."""

    memory: KeyValue
    geometry: Geometry
    wants_mass: bool = False
    beams: int = 1
    mass: Tensor | None = None


class Gate(nn.Module):
    """x + tanh(a) attention(x, clip), then x + tanh(b) MLP(x); a and b start at 0, where the gate is the identity."""

    def __init__(self, width: int, dim: int, heads: int, attention: AttentionFactory) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"captions: heads={heads} do not divide the language model's {width} channels")
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = ClipAttention(width, heads, attention, memory_dim=dim)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)
        self.gates = nn.Parameter(torch.zeros(2))
        self.input: GateInput | None = None

    def prepare(self, memory: ClipMemory, *, mass: bool = False) -> GateInput:
        """Project the memory once for all tokens."""
        return GateInput(self.cross_attn.keys_values(memory.values), memory.geometry, mass)

    def forward(self, x: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        assert self.input is not None, "the language model runs only within `gate_inputs`"
        given, (rows, length) = self.input, x.shape[:2]
        words = x.reshape(rows // given.beams, given.beams * length, -1)  # the beams of a clip share its memory
        words = words.to(self.gates.dtype)
        read, given.mass = self.cross_attn(self.norm1(words), given.memory, given.geometry, mass=given.wants_mass)
        words = words + torch.tanh(self.gates[0]) * read
        words = words + torch.tanh(self.gates[1]) * self.mlp(self.norm2(words))
        return words.view(rows, length, -1).to(x.dtype)


class GateHook:
    """A forward pre-hook that applies a gate to the hidden states of a block.

    Not a function: a deep copy of the model copies the gate in its hook with it.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (self.gate(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.gate(kwargs["hidden_states"])}


@contextmanager
def gate_inputs(gates: Sequence[Gate], inputs: Sequence[GateInput]) -> Iterator[None]:
    """Give the `gates` their `inputs` while the language model runs."""
    try:
        for gate, each in zip(gates, inputs, strict=True):
            gate.input = each
        yield
    finally:
        for gate in gates:
            gate.input = None
