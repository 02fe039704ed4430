"""What an encoder is: a Batch in, one stream of tokens with times out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.types import Batch, Tokens


class Encoder(nn.Module):
    """Tokens of `dim` channels. Padding must not change the tokens of what is real.

    `resolved`: the settings that build this encoder again, up to its weights, without any file it was made from.
    Settings that a config has already may be left out.
    """

    dim: int
    resolved: dict[str, Any] = {}  # noqa: RUF012 (never written to)

    @abstractmethod
    def forward(self, batch: Batch) -> Tokens: ...


class VisualEncoder(Encoder):
    """Frames to tokens. `frame_format`: the frames it was made for, None: any will do."""

    frame_format: FrameFormat | None = None


class AudioEncoder(Encoder):
    """Sound to tokens."""
