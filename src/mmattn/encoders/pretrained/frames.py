"""Tokens from networks for single images, which encode each frame on its own.

Shape legend: N images, T frames, P places of an image, C the network's channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, Projection
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.types import Batch, Tokens


class FrameEncoder(VisualEncoder):
    """`net`: frames (N, 3, H, W) uint8 -> (N, P, C), a row for each place or one row for the whole frame.

    `frames`: the frames that the network expects.
    """

    def __init__(
        self,
        dim: int,
        net: nn.Module,
        channels: int,
        mode: Mode,
        lora: Mapping[str, Any] | None,
        *,
        frames: FrameFormat,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.frame_format = frames
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, 3, *frames.size, dtype=torch.uint8),))
        self.project = Projection(channels, dim)

    def forward(self, batch: Batch) -> Tokens:
        values = self.backbone(batch.frames.flatten(0, 1), keep=batch.frame_keep.flatten())  # (B*T, P, C)
        places = values.shape[1]
        values = self.project(values.view(len(batch), -1, values.shape[-1]))  # (B, T*P, dim)
        keep = batch.frame_keep.repeat_interleave(places, dim=1)
        times = batch.frame_times.repeat_interleave(places, dim=1)
        return Tokens(zero_padding(values, keep), keep, times, "frame_keep" in batch.full)


class FrameNetwork(nn.Module):
    """What the adapters of image networks share: the preprocessing, the library's model, and the kind of tokens."""

    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        super().__init__()
        self.pixels, self.model, self.tokens, self.grid = pixels, model, tokens, grid
