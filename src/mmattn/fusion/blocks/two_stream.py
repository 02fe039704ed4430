"""Two streams through a stack of blocks. The fusion strategy decides what each block reads."""

from __future__ import annotations

from torch import nn

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.transformer import StreamBlock, check_layers
from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Fused, LayerStats, Modality, Tokens

Reads = dict[Modality, tuple[Modality, ...]]  # which streams each stream reads
BOTH = "both"  # the name of a block that both streams share


class TwoStream(Fusion):
    """`reads`: from layer `from_layer` on; before it each stream reads itself.

    `shared`: one block in each layer for both streams, instead of one for each.
    """

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
        shared: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= from_layer < check_layers(layers):
            raise ValueError(f"from_layer={from_layer}: expected at least 0 and below layers={layers}")
        alone: Reads = {"video": ("video",), "audio": ("audio",)}
        self.reads = [reads if i >= from_layer else alone for i in range(layers)]
        self.shared = shared

        def block(i: int, reads: tuple[Modality, ...]) -> StreamBlock:
            return StreamBlock(f"{name}.{i}", dim, heads, attention, reads, dropout, position)

        self.blocks = nn.ModuleList(
            nn.ModuleDict({BOTH: block(i, MODALITIES)} if shared else {one: block(i, reads[one]) for one in MODALITIES})
            for i, reads in enumerate(self.reads)
        )

    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        streams: dict[Modality, Tokens] = {"video": video, "audio": audio}
        measured: list[LayerStats] = []
        for reads, blocks in zip(self.reads, self.blocks, strict=True):
            assert isinstance(blocks, nn.ModuleDict)
            after: dict[Modality, Tokens] = {}
            for name in MODALITIES:
                block = blocks[BOTH if self.shared else name]
                after[name], seen = block(name, {read: streams[read] for read in reads[name]}, stats)
                measured += seen
            streams = after
        return Fused(streams["video"], streams["audio"], tuple(measured))
