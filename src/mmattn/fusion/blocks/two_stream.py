"""Two stacks of blocks, one for each modality. The fusion strategy decides what each block reads."""

from __future__ import annotations

from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.transformer import StreamBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Modality, Tokens

Reads = dict[Modality, tuple[Modality, ...]]  # which streams each stream reads


class TwoStream(Fusion):
    """`reads`: from layer `from_layer` on; before it each stream reads itself."""

    def __init__(
        self,
        name: str,
        dim: int,
        heads: int,
        layers: int,
        attention: AttentionFactory,
        reads: Reads,
        dropout: float,
        from_layer: int = 0,
        position: PositionFactory = Rotary,
    ) -> None:
        super().__init__()
        if not 0 <= from_layer < check_layers(layers):
            raise ValueError(f"from_layer={from_layer}: expected at least 0 and below layers={layers}")
        alone: Reads = {"video": ("video",), "audio": ("audio",)}
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    stream: StreamBlock(
                        f"{name}.{i}",
                        dim,
                        heads,
                        attention,
                        stream,
                        reads[stream] if i >= from_layer else alone[stream],
                        dropout,
                        position,
                    )
                    for stream in MODALITIES
                }
            )
            for i in range(layers)
        )

    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        measured: list[LayerStats] = []
        for pair in self.blocks:
            assert isinstance(pair, nn.ModuleDict)
            done = {name: pair[name](streams, stats) for name in MODALITIES}
            streams = {name: done[name][0] for name in MODALITIES}
            measured += [layer for _, seen in done.values() for layer in seen]
        return Fused(streams["video"], streams["audio"], tuple(measured))
