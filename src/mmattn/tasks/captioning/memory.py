"""The memory of a caption decoder: the tokens of both fused streams in one sequence, with times and modalities.

Shape legend: B clips, L tokens of both streams and two more, D channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import Geometry
from mmattn.types import MODALITIES, Fused, Modality, Tokens

MISSING = "missing"  # the segment of the learned tokens


@dataclass(frozen=True)
class ClipMemory:
    """The tokens of both streams. `geometry.segments`: video, audio, two learned tokens for a missing modality."""

    values: Float[Tensor, "B L D"]
    geometry: Geometry

    @property
    def keep(self) -> Tensor:
        """(B, L) True where a token is real."""
        assert self.geometry.keep is not None
        return self.geometry.keep

    def trimmed(self) -> ClipMemory:
        """Without the learned tokens if no clip lacks a modality, because masks cost time."""
        if bool(self.keep[:, -2:].any()):
            return self
        assert self.geometry.time is not None
        geometry = Geometry(self.keep[:, :-2], self.geometry.time[:, :-2], self.geometry.segments[:-1])
        return ClipMemory(self.values[:, :-2], geometry)


class Memory(nn.Module):
    """Fused streams -> ClipMemory. For a clip without a modality, one learned token of `missing` is kept instead."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in MODALITIES})
        self.modality_embed = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.missing = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in MODALITIES})
        self.time_embed = TimeEmbedding(dim)

    def forward(self, fused: Fused) -> ClipMemory:
        streams: dict[Modality, Tokens] = {"video": fused.video, "audio": fused.audio}
        values = [
            self.norms[name](tokens.values) + self.modality_embed[name] + self.time_embed(tokens.times)
            for name, tokens in streams.items()
        ]
        clips = len(fused.video.keep)
        values += [self.missing[name].to(values[0].dtype).expand(clips, 1, -1) for name in MODALITIES]
        keeps = [tokens.keep for tokens in streams.values()]
        keeps += [~tokens.present[:, None] for tokens in streams.values()]
        times = [tokens.times for tokens in streams.values()]
        times.append(torch.zeros_like(times[0][:, :1]).expand(-1, 2))
        segments = tuple((name, tokens.keep.shape[1]) for name, tokens in streams.items())
        exempt = frozenset({MISSING})
        geometry = Geometry(torch.cat(keeps, dim=1), torch.cat(times, dim=1), (*segments, (MISSING, 2)), exempt)
        return ClipMemory(torch.cat(values, dim=1), geometry)


class TimeEmbedding(nn.Module):
    """Seconds -> D channels: sines and cosines of 32 periods from 0.08 s to 80 s, mixed by a learned matrix."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(0.08), math.log10(80), 32)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.proj = nn.Linear(64, dim, bias=False)

    def forward(self, times: Float[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        angles = times[..., None].float() * self.frequencies
        return self.proj(torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.proj.weight.dtype))
