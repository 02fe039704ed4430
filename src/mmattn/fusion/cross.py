"""Bi-directional cross-attention: from `from_layer` on each stream reads itself and the other under one softmax.

This is "vanilla cross-attention" of MBT (Nagrani et al. 2021, eq. 5-6): parameters are per stream, keys come from both.
One softmax over both modalities is what makes attention mass a weighting of sound against picture.

With `shared` both streams ask, attend and feed forward with the same weights. What remains between that and `concat` is
that keys and values have a projection for each modality, where `concat` has one and adds a vector to the tokens.
"""

from __future__ import annotations

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.two_stream import Reads, TwoStream


class CrossFusion(TwoStream):
    """`from_layer`: the first of `layers` blocks in which the streams read each other.

    `shared`: each layer has one set of weights for both streams.
    """

    reference = "Nagrani et al. 2021"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        from_layer: int = 0,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
        shared: bool = False,
    ) -> None:
        reads: Reads = {"video": ("video", "audio"), "audio": ("audio", "video")}
        super().__init__("cross", dim, heads, layers, attention, reads, dropout, from_layer, position, shared)
