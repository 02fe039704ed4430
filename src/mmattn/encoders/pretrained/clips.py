"""Tokens from networks for short clips, which read a fixed number of frames at once: their window.

A token stands for `stride` frames of a window. A longer clip is read in consecutive windows. The last window is filled
with the last real frame, and windows without a real frame are skipped, so nothing depends on padding.

Shape legend: N windows, T frames, S token steps in a window, P places of an image, C the network's channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mmattn.encoders.frame_format import FrameFormat
from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Kind, Projection, pooled
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.types import Batch, Tokens


class ClipEncoder(VisualEncoder):
    """`net`: windows of frames (N, window, 3, H, W) uint8 -> (N, S, P, C), where S = window / stride.

    `centred`: a token is centred on the first frame of its stride, as after a strided convolution with padding. If
    False, it covers the frames of its stride, as a tubelet does, and its time is their mean.
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
        values = self.backbone(windows, keep=keep.view(-1, self.window).any(dim=1))  # (B*W, S, P, C)
        places = values.shape[2]
        values = self.project(values.view(clips, -1, values.shape[-1]))
        steps = batch.frame_times[rows, shown].unflatten(1, (-1, self.stride))  # (B, W*S, stride)
        times = steps[..., 0] if self.centred else steps.mean(dim=-1)
        keep = keep.unflatten(1, (-1, self.stride)).any(dim=-1)
        keep, times = (each.repeat_interleave(places, dim=1) for each in (keep, times))
        return Tokens(zero_padding(values, keep), keep, times)


class ClipNetwork(nn.Module):
    """What the adapters of clip networks share: frames to pixels, and places to tokens."""

    def __init__(self, pixels: Pixels, model: Any, tokens: Kind, grid: int | None) -> None:
        super().__init__()
        self.pixels, self.model, self.grid = pixels, model, 1 if tokens == "frame" else grid

    def forward(self, windows: UInt8[Tensor, "N T 3 H W"]) -> Float[Tensor, "N S P C"]:
        places = self.places(self.pixels(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]))
        return pooled(places.flatten(0, 1), self.grid).unflatten(0, places.shape[:2])

    @abstractmethod
    def places(self, x: Float[Tensor, "N T 3 h w"]) -> Float[Tensor, "N S rows columns C"]:
        """The network's last feature maps."""


def last_real(keep: Bool[Tensor, "B T"], window: int) -> Int[Tensor, "B L"]:
    """The frame to show at each position of whole windows: the frame itself, or the last real one before it."""
    length = -(-keep.shape[1] // window) * window
    positions = torch.arange(length, device=keep.device)
    real = torch.where(nn.functional.pad(keep, (0, length - keep.shape[1])), positions, -1)
    return real.cummax(dim=1).values.clamp(min=0)
