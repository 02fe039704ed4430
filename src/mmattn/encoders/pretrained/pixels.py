"""Frames as a network was trained to see them: how they are cut to its size, its mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mmattn.media.read.video.resample import Resample

Interpolation = Literal["bicubic", "bilinear"]
TRANSFORMERS: dict[str, Resample] = {"bicubic": "transformers_bicubic", "bilinear": "transformers_bilinear"}
PILLOW: dict[str, Resample] = {"bicubic": "pillow_bicubic", "bilinear": "pillow_bilinear"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def full_precision(device: torch.device) -> AbstractContextManager:
    """float32 stays float32, whatever precision a network runs in."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


@dataclass(frozen=True)
class FrameFormat:
    """The frames that an encoder wants to be decoded: `size` (height, width), the middle of a picture resized before.

    `resize`: to what, its shorter side or (height, width). `resample`: by which library, and its filter.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int]
    resample: Resample

    @property
    def clip(self) -> dict[str, Any]:
        """The keys of data.clip that say so."""
        return {
            "height": self.size[0],
            "width": self.size[1],
            "fit": "crop" if isinstance(self.resize, int) else "stretch",
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "resample": self.resample,
        }


class Pixels(nn.Module):
    """uint8 frames (N, 3, H, W) -> float32 (N, 3, height, width) of `size`, (value / 255 - mean) / std.

    Frames that are of another size, because data.clip says so, are resized by `interpolation` with antialiasing, each
    side by itself, to whole values of 0 to 255. float32 also where the network runs in bfloat16.
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
                x = x + (x.round().clamp(0, 255) - x).detach()  # what asks for gradients gets those of the resizing
            return (x / 255 - self.mean) / self.std
