"""Low-rank multimodal fusion (LMF, Liu et al. 2018, eq. 7): the outer product of both summaries without its tensor.

With p_m the mean of a stream's tokens, h = sum_r (W_v^r [p_v; 1]) * (W_a^r [p_a; 1]), elementwise. Every token of both
streams then gets a projection of h added. A missing modality is p = 0: its factor is the bias row alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import masked_mean, zeroed
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, Modality, Tokens


class LowRankTensorFusion(Fusion):
    """`rank`: R of the paper. The streams read only themselves in `layers` blocks before."""

    reference = "Liu et al. 2018"
    weighs = None

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        rank: int = 4,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank={rank}: expected 1 or more")
        self.rank = rank
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: MergedBlock(f"lmf.{i}", dim, heads, attention, dropout, position=position)
                    for name in MODALITIES
                }
            )
            for i in range(check_layers(layers))
        )
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in MODALITIES})
        self.factors = nn.ModuleDict({name: nn.Linear(dim, rank * dim) for name in MODALITIES})  # the bias is the 1
        for factor in self.factors.values():
            assert isinstance(factor, nn.Linear)
            nn.init.ones_(factor.bias)  # alone, the other modality passes unchanged
        self.norm = nn.LayerNorm(dim)
        self.out_proj = nn.ModuleDict({name: nn.Linear(dim, dim) for name in MODALITIES})

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        for pair in self.blocks:
            assert isinstance(pair, nn.ModuleDict)
            streams = {n: pair[n]([(n, streams[n])], [(n, streams[n])], frozenset())[0][0][1] for n in MODALITIES}
        product = self._factor("video", streams["video"]) * self._factor("audio", streams["audio"])
        joint = self.norm(product.unflatten(1, (self.rank, -1)).sum(dim=1))[:, None]  # (B, 1, D)
        done = {name: zeroed(streams[name].values + self.out_proj[name](joint), streams[name]) for name in MODALITIES}
        return Fused(done["video"], done["audio"])

    def _factor(self, name: Modality, tokens: Tokens) -> Tensor:
        summary = torch.where(tokens.present[:, None], self.norms[name](masked_mean(tokens)), 0.0)
        return self.factors[name](summary)
