"""Late fusion: the streams never read each other.

Tasks add the logits of both streams, so this is the sum of two unimodal classifiers, the simplest baseline. Its blocks
are those of `cross`, so the two differ only in which stream reads which.
"""

from __future__ import annotations

from mmattn.attention.interface import AttentionFactory
from mmattn.attention.positions.interface import PositionFactory
from mmattn.attention.positions.rotary import Rotary
from mmattn.fusion.blocks.two_stream import Reads, TwoStream


class LateFusion(TwoStream):
    """`layers` blocks a stream; each stream reads itself only."""

    reference = "baseline"

    def __init__(
        self,
        dim: int,
        heads: int,
        attention: AttentionFactory,
        layers: int = 2,
        dropout: float = 0.1,
        position: PositionFactory = Rotary,
    ) -> None:
        reads: Reads = {"video": ("video",), "audio": ("audio",)}
        super().__init__("late", dim, heads, layers, attention, reads, dropout, position=position)
