"""Frames to the normalised pixels that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.encoders.pretrained.precision import full_precision
from mmattn.media.read.video.resample import Resample

Interpolation = Literal["bicubic", "bilinear"]
TRANSFORMERS: dict[str, Resample] = {"bicubic": "transformers_bicubic", "bilinear": "transformers_bilinear"}
PILLOW: dict[str, Resample] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pixels(nn.Module):
    """uint8 frames (N, 3, H, W) -> float32 (N, 3, height, width) of `size`, (value / 255 - mean) / std.

    Frames of another size, because data.clip says so, are resized by `interpolation` with antialiasing, each side
    independently, and rounded to whole values of 0 to 255. Always in float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        size: int | tuple[int, int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else size
        self.interpolation: Interpolation = interpolation
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1), persistent=False)

    def forward(self, frames: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 h w"]:
        with full_precision(frames.device):
            x = frames.float()
            if x.shape[-2:] != self.size:
                x = nn.functional.interpolate(
                    x, self.size, mode=self.interpolation, align_corners=False, antialias=True
                )
                x = x + (x.round().clamp(0, 255) - x).detach()  # rounded, with the gradient of the resizing
            return (x / 255 - self.mean) / self.std
