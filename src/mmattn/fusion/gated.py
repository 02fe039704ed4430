"""Gated multimodal units (GMU, Arevalo et al. 2017, eq. 1-5), one for each token.

x reads the other stream by attention, r = attend(x, other); then
    h = z * tanh(W x) + (1 - z) * tanh(U r),   z = sigmoid(V [x; r]),   x <- x + h.
1 - z is the share of the unit's output that comes from the other modality. If that is missing, z is 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.multi_head import MergedAttention
from mmattn.fusion.blocks.parts import zeroed
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Modality, Tokens

OTHER: dict[Modality, Modality] = {"video": "audio", "audio": "video"}


class GatedUnit(nn.Module):
    """A stream's gate towards the other stream."""

    def __init__(self, name: str, dim: int, heads: int, attention: AttentionFactory, position: PositionFactory) -> None:
        super().__init__()
        self.name = name
        self.heads = heads
        self.norms = nn.ModuleDict({side: nn.LayerNorm(dim) for side in ("own", "other")})
        self.cross_attn = MergedAttention(dim, heads, attention, position=position)
        self.own = nn.Linear(dim, dim)
        self.other = nn.Linear(dim, dim)
        self.gate = nn.Linear(2 * dim, dim)

    def forward(
        self, stream: Modality, own: Tokens, other: Tokens, stats: frozenset[str]
    ) -> tuple[Tokens, list[LayerStats]]:
        x = own.with_values(self.norms["own"](own.values))
        read = other.with_values(self.norms["other"](other.values))
        r, _ = self.cross_attn([(stream, x)], [(OTHER[stream], read)], frozenset())
        gate = torch.sigmoid(self.gate(torch.cat([x.values, r], dim=-1)))
        gate = torch.where(other.present[:, None, None], gate, 1.0)
        h = gate * torch.tanh(self.own(x.values)) + (1 - gate) * torch.tanh(self.other(r))
        done = zeroed(own.values + h, own)
        return done, [self._stats(stream, own, other, gate)] if "mass" in stats else []

    def _stats(self, stream: Modality, own: Tokens, other: Tokens, gate: Float[Tensor, "B L D"]) -> LayerStats:
        """The gate, averaged over the channels of each head, as the share of each modality."""
        share = gate.unflatten(2, (self.heads, -1)).mean(dim=-1).transpose(1, 2)  # (B, H, L)
        share = share * own.present[:, None, None]
        rest = (1 - share) * own.present[:, None, None]
        even = {name: one.present.float() for name, one in ((stream, own), (OTHER[stream], other))}
        total = torch.stack(list(even.values())).sum(dim=0).clamp(min=1.0)
        expected = {name: value / total for name, value in even.items()}
        return LayerStats(self.name, stream, own.keep, {stream: share, OTHER[stream]: rest}, expected, kind="gate")


class GatedFusion(Fusion):
    """In each of `layers`, a block of self-attention for each stream, then a gated unit towards the other stream."""

    reference = "Arevalo et al. 2017"
    weighs = "gate"

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
            nn.ModuleDict(
                {
                    name: MergedBlock(f"gated.{i}", dim, heads, attention, dropout, position=position)
                    for name in MODALITIES
                }
            )
            for i in range(check_layers(layers))
        )
        self.units = nn.ModuleList(
            nn.ModuleDict({name: GatedUnit(f"gated.{i}", dim, heads, attention, position) for name in MODALITIES})
            for i in range(layers)
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        measured: list[LayerStats] = []
        for blocks, units in zip(self.blocks, self.units, strict=True):
            assert isinstance(blocks, nn.ModuleDict) and isinstance(units, nn.ModuleDict)
            own = {
                name: blocks[name]([(name, streams[name])], [(name, streams[name])], frozenset())[0][0][1]
                for name in MODALITIES
            }
            done = {name: units[name](name, own[name], own[OTHER[name]], stats) for name in MODALITIES}
            streams = {name: done[name][0] for name in MODALITIES}
            measured += [layer for _, seen in done.values() for layer in seen]
        return Fused(streams["video"], streams["audio"], tuple(measured))
