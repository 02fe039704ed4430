"""Tokens from networks made for pictures and for short clips: what they see becomes a stream with times.

A picture network reads each frame by itself. A clip network reads a fixed number of frames at once, its window, in
which a token stands for `stride` frames; a longer clip is read in windows, one after the other. The last window is
filled up with the last real frame, and windows without one are not read, so nothing depends on padding.

Shape legend: N pictures or windows, T frames, S token steps in a window, P places in a picture, C the network's
channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.pixels import FrameFormat
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens

Kind = Literal["patch", "frame"]


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


class Projection(nn.Sequential):
    """A network's channels to `dim`, normalised as the built-in encoders' tokens are."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(nn.Linear(channels, dim), nn.LayerNorm(dim))


def last_real(keep: Bool[Tensor, "B T"], window: int) -> Int[Tensor, "B L"]:
    """For each place of whole windows the frame that is shown there: itself, or the last real one before it."""
    length = -(-keep.shape[1] // window) * window
    places = torch.arange(length, device=keep.device)
    real = torch.where(nn.functional.pad(keep, (0, length - keep.shape[1])), places, -1)
    return real.cummax(dim=1).values.clamp(min=0)


def spread(keep: Bool[Tensor, "B T"], count: int) -> Int[Tensor, "B count"]:
    """`count` of the real frames of each clip, from its first to its last, as evenly as whole frames allow."""
    last = (keep.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return torch.arange(count, device=keep.device) * last // max(1, count - 1)


def check_tokens(tokens: str) -> None:
    """Raises UsageError."""
    if tokens not in get_args(Kind):
        raise UsageError(f"tokens={tokens}: expected one of {', '.join(get_args(Kind))}")


def pooled(places: Float[Tensor, "N h w C"], grid: int | None) -> Float[Tensor, "N P C"]:
    """The places of a picture, row by row, averaged to grid x grid cells where a `grid` is given."""
    if grid is not None and grid < min(places.shape[1:3]):
        places = nn.functional.adaptive_avg_pool2d(places.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
    return places.flatten(1, 2)
