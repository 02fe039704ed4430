"""Tokens from networks for short clips."""

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


class ClipEncoder(VisualEncoder):
    """`net`: windows of frames (N, window, 3, H, W) uint8 -> (N, S, P, C), where S = window / stride.

    `centred`: a token's frames lie around the first one of its stride, as of a strided convolution with padding;
    otherwise they are the frames of its stride, as of a tubelet, and its time is their mean.
    """

    def __init__(
        self,
        dim: int,
        net: nn.Module,
        channels: int,
        mode: Mode,
        lora: Mapping[str, Any],
        *,
        frames: FrameFormat,
        window: int,
        stride: int,
        centred: bool,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.frame_format = frames
        self.window = window
        self.stride = stride
        self.centred = centred
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, window, 3, *frames.size, dtype=torch.uint8),))
        self.project = Projection(channels, dim)

    def forward(self, batch: Batch) -> Tokens:
        clips = len(batch)
        shown = last_real(batch.frame_keep, self.window)  # (B, W*window)
        rows = torch.arange(clips, device=shown.device)[:, None]
        keep = nn.functional.pad(batch.frame_keep, (0, shown.shape[1] - batch.frame_keep.shape[1]))
        windows = batch.frames[rows, shown].unflatten(1, (-1, self.window)).flatten(0, 1)
        values = self.backbone(windows, real=keep.view(-1, self.window).any(dim=1))  # (B*W, S, P, C)
        places = values.shape[2]
        values = self.project(values.view(clips, -1, values.shape[-1]))
        steps = batch.frame_times[rows, shown].unflatten(1, (-1, self.stride))  # (B, W*S, stride)
        times = steps[..., 0] if self.centred else steps.mean(dim=-1)
        keep = keep.unflatten(1, (-1, self.stride)).any(dim=-1)
        keep, times = (each.repeat_interleave(places, dim=1) for each in (keep, times))
        return Tokens(zero_padding(values, keep), keep, times)


def last_real(keep: Bool[Tensor, "B T"], window: int) -> Int[Tensor, "B L"]:
    """For each place of whole windows the frame that is shown there: itself, or the last real one before it."""
    length = -(-keep.shape[1] // window) * window
    places = torch.arange(length, device=keep.device)
    real = torch.where(nn.functional.pad(keep, (0, length - keep.shape[1])), places, -1)
    return real.cummax(dim=1).values.clamp(min=0)
