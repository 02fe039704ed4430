"""What an encoder is: a Batch in, one stream of tokens with times out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.types import Batch, Tokens


class Encoder(nn.Module):
    """Tokens of `dim` channels. Padding must not change the tokens of real input.

    `resolved`: the settings with which a config builds this encoder again without the files that it came from. Its
    weights are not part of them; settings that the config already has may be left out.
    """

    dim: int
    resolved: dict[str, Any] = {}  # noqa: RUF012 (never written to)

    @abstractmethod
    def forward(self, batch: Batch) -> Tokens:
        """Encode one modality of the batch."""


class VisualEncoder(Encoder):
    """Frames to tokens. `frame_format`: the frames that the network was trained on; None: any."""

    frame_format: FrameFormat | None = None


class AudioEncoder(Encoder):
    """Audio to tokens."""
