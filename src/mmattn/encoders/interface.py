"""What an encoder is: a Batch in, one stream of tokens with times out."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from mmattn.types import Batch, Tokens


class VisualEncoder(nn.Module):
    """Frames to tokens of `dim` channels. Padding frames must not change the tokens of real ones."""

    dim: int

    @abstractmethod
    def forward(self, batch: Batch) -> Tokens: ...


class AudioEncoder(nn.Module):
    """Sound to tokens of `dim` channels. Padding must not change the tokens of real sound."""

    dim: int

    @abstractmethod
    def forward(self, batch: Batch) -> Tokens: ...
