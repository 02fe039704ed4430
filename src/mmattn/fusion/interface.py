"""The interface of every fusion strategy."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from torch import nn

from mmattn.types import Fused, Tokens


class Fusion(nn.Module):
    """Takes two streams of tokens and returns the fused streams. Either stream may be missing in any clip.

    `weighs`: what its statistics are shares of, where it has a weighting of one part against another at all.
    `one_graph`: torch.compile makes one graph of it, without a break.
    `reference`: where the strategy comes from, for `mmattn show fusion`.
    """

    weighs: ClassVar[Literal["attention", "gate"] | None] = "attention"
    one_graph: ClassVar[bool] = True
    reference: ClassVar[str]

    @abstractmethod
    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused: ...
