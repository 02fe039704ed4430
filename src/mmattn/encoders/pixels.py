"""Frames as a network was trained to see them: its size, its mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def full_precision(device: torch.device) -> AbstractContextManager:
    """float32 stays float32, whatever precision a network runs in."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


class Pixels(nn.Module):
    """uint8 frames (N, 3, H, W) of any size -> float32 (N, 3, size, size), (value / 255 - mean) / std.

    Resized by `interpolation` with antialiasing, each side by itself, to whole values of 0 to 255 as image libraries
    do. float32 also where the network runs in bfloat16.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        interpolation: Literal["bicubic", "bilinear"] = "bicubic",
    ) -> None:
        super().__init__()
        self.size = size
        self.interpolation: Literal["bicubic", "bilinear"] = interpolation
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1), persistent=False)

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 S S"]:
        with full_precision(frames.device):
            x = frames.float()
            if x.shape[-2:] != (self.size, self.size):
                x = nn.functional.interpolate(
                    x, (self.size, self.size), mode=self.interpolation, align_corners=False, antialias=True
                )
                x = x + (x.round().clamp(0, 255) - x).detach()  # what asks for gradients gets those of the resizing
            return (x / 255 - self.mean) / self.std
