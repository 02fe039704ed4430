"""Attention bottlenecks (MBT, Nagrani et al. 2021, sec. 3.3, eq. 8-9): the streams meet only in a few tokens.

Up to `from_layer` each stream reads itself. From there on each reads itself and B bottleneck tokens, which read it in
turn; after a layer the bottleneck is the mean of what it became beside each stream. A missing stream is left
out of that mean. The bottleneck is not read after the last layer, so it is not computed there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.parts import Part, learned_tokens
from mmattn.fusion.blocks.transformer import MergedBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Tokens


class BottleneckFusion(Fusion):
    """`tokens`: B, 4 in the paper. `from_layer`: how many layers come before the streams meet.

    `mlp_ratio`: the feed-forwards' width over `dim`; 4 in the paper.
    """

    reference = "Nagrani et al. 2021"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        from_layer: int = 0,
        tokens: int = 4,
        dropout: float = 0.1,
        mlp_ratio: int = 2,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        check_layers(layers)
        if layers - from_layer < 2 or from_layer < 0:
            raise ValueError(
                f"from_layer={from_layer} of layers={layers}: the bottleneck is written in one layer and read in the "
                "next, so at least two have to follow"
            )
        if tokens < 1:
            raise ValueError(f"tokens={tokens}: expected 1 or more")
        self.from_layer = from_layer
        self.bottleneck = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: MergedBlock(
                        f"bottleneck.{i}", dim, heads, attention, dropout, mlp_ratio=mlp_ratio, position=position
                    )
                    for name in MODALITIES
                }
            )
            for i in range(layers)
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams = {"video": video, "audio": audio}
        shared = learned_tokens(self.bottleneck, list(streams.items()))
        measured: list[LayerStats] = []
        for i, pair in enumerate(self.blocks):
            assert isinstance(pair, nn.ModuleDict)
            meets, last = i >= self.from_layer, i + 1 == len(self.blocks)
            written: dict[str, Tokens] = {}  # what the bottleneck became beside each stream
            for name in MODALITIES:
                reads: list[Part] = [(name, streams[name])] + [("bottleneck", shared)] * meets
                queries = reads[:1] if last else reads
                done, stats_of = pair[name](queries, reads, stats)
                streams[name] = done[0][1]
                measured += stats_of[:1]
                if len(done) > 1:
                    written[name] = done[1][1]
            if written:
                shared = shared.with_values(_mean_of_present(written, streams, shared))
        return Fused(streams["video"], streams["audio"], tuple(measured))


def _mean_of_present(written: dict[str, Tokens], streams: dict[str, Tokens], before: Tokens) -> Float[Tensor, "B N D"]:
    """Eq. 9 over the modalities that a clip has; without any the bottleneck stays as it was."""
    weight = {name: streams[name].present[:, None, None].to(before.values.dtype) for name in written}
    count = torch.stack(list(weight.values())).sum(dim=0)
    total = torch.stack([written[name].values * weight[name] for name in written]).sum(dim=0)
    return torch.where(count > 0, total / count.clamp(min=1.0), before.values)
