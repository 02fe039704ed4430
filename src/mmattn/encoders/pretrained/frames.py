"""Tokens from networks made for pictures and for short clips: what they see becomes a stream with times.

A picture network reads each frame by itself. A clip network reads a fixed number of frames at once, its window, in
which a token stands for `stride` frames; a longer clip is read in windows, one after the other. The last window is
filled up with the last real frame, and windows without one are not read, so nothing depends on padding.

Shape legend: N pictures or windows, T frames, S token steps in a window, P places in a picture, C the network's
channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.tokens import Projection
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.types import Batch, Tokens


class FrameEncoder(VisualEncoder):
    """`net`: frames (N, 3, H, W) uint8 -> (N, P, C), one row for each place, or a single one for the whole frame.

    `frames`: what the network sees.
    """

    def __init__(
        self, dim: int, net: nn.Module, channels: int, mode: Mode, lora: Mapping[str, Any], *, frames: FrameFormat
    ) -> None:
        super().__init__()
        self.dim = dim
        self.frame_format = frames
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, 3, *frames.size, dtype=torch.uint8),))
        self.project = Projection(channels, dim)

    def forward(self, batch: Batch) -> Tokens:
        values = self.backbone(batch.frames.flatten(0, 1), real=batch.frame_keep.flatten())  # (B*T, P, C)
        places = values.shape[1]
        values = self.project(values.view(len(batch), -1, values.shape[-1]))  # (B, T*P, dim)
        keep = batch.frame_keep.repeat_interleave(places, dim=1)
        times = batch.frame_times.repeat_interleave(places, dim=1)
        return Tokens(zero_padding(values, keep), keep, times, "frame_keep" in batch.full)


def spread(keep: Bool[Tensor, "B T"], count: int) -> Int[Tensor, "B count"]:
    """`count` of the real frames of each clip, from its first to its last, as evenly as whole frames allow."""
    last = (keep.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return torch.arange(count, device=keep.device) * last // max(1, count - 1)
