"""Augmentation of the video: drawn once for a clip and applied to all its frames alike, except masks over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from mmattn.data.prepare.keys import Key

ERASED_SHARE, ERASED_ASPECT = (0.02, 1 / 3), 3.0  # of the area; largest width over height, and its inverse


@dataclass(frozen=True)
class PictureAugment:
    """Augmentation of frames, in this order; with everything at 0, nothing is changed.

    crop: up to this share of the area is cut away, and the rest scaled back (Szegedy et al. 2015; theirs is 0.92).
    crop_aspect: how far the cut's shape may differ: its width over height times or over up to 1 + crop_aspect.
    flip: probability to exchange left and right. Leave it at 0 where tags or captions say "left" and "right".
    shift_px: frames are moved by up to this; the border is repeated.
    brightness, contrast, saturation: a factor within 1 +- this. hue: a turn within +- this, up to 0.5.
    grey: probability to be converted to grey.
    erase: probability that a rectangle of 2 to 33 % of the area becomes the clip's mean colour (Zhong et al. 2020).
    masks: the number of runs of up to `mask_frames` frames that become the clip's mean frame (Ma et al. 2022).
    """

    crop: float = 0.0
    crop_aspect: float = 0.0
    flip: float = 0.0
    shift_px: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    erase: float = 0.0
    masks: int = 0
    mask_frames: int = 0

    def __post_init__(self) -> None:
        counts = dict.fromkeys(("shift_px", "masks", "mask_frames"), math.inf)
        most = {"crop": 0.99, "crop_aspect": 3.0, "hue": 0.5, **counts}
        for name, value in vars(self).items():
            if not 0 <= value <= most.get(name, 1.0):
                raise ValueError(f"data.augment.picture.{name} must be 0 to {most.get(name, 1.0)}, got {value}")

    def __call__(self, frames: UInt8[Tensor, "T 3 H W"], keep: Bool[Tensor, " T"], key: Key) -> Tensor:
        """Augmented frames of the same shape; padding stays black."""
        if not keep.any():
            return frames
        varied = frames
        steps: tuple[tuple[str, Callable[[Tensor, Key], Tensor]], ...] = (
            ("crop", self._crop),
            ("flip", self._flip),
            ("shift_px", self._shift),
            ("brightness", self._brightness),
            ("contrast", self._contrast),
            ("saturation", self._saturation),
            ("hue", self._hue),
            ("grey", self._grey),
        )
        for name, step in steps:
            if getattr(self, name):
                varied = step(varied, key)
        if self.erase:
            varied = self._erase(varied, keep, key)
        if self.masks and self.mask_frames:
            varied = self._mask(varied, keep, key)
        return varied if varied is frames else varied * keep[:, None, None, None]

    def _crop(self, frames: Tensor, key: Key) -> Tensor:
        stream = key.stream("crop")
        height, width = frames.shape[-2:]
        area = 1 - stream.uniform(0, self.crop)
        stretch = math.exp(stream.uniform(-1, 1) * math.log1p(self.crop_aspect))  # of width over height
        high = min(height, max(1, round(height * math.sqrt(area / stretch))))
        wide = min(width, max(1, round(width * math.sqrt(area * stretch))))
        top, left = stream.randint(0, height - high), stream.randint(0, width - wide)
        return functional.resized_crop(frames, top, left, high, wide, [height, width], antialias=True)

    def _flip(self, frames: Tensor, key: Key) -> Tensor:
        return functional.horizontal_flip(frames) if key.stream("flip").random() < self.flip else frames

    def _shift(self, frames: Tensor, key: Key) -> Tensor:
        stream = key.stream("shift")
        by = [min(max(stream.randint(-self.shift_px, self.shift_px), 1 - size), size - 1) for size in frames.shape[-2:]]
        moved = frames.roll(by, (-2, -1))
        for dim, step in zip((-2, -1), by, strict=True):
            first, border = (0, step) if step > 0 else (frames.shape[dim] + step, frames.shape[dim] + step - 1)
            moved.narrow(dim, first, abs(step)).copy_(moved.narrow(dim, border, 1))
        return moved

    def _brightness(self, frames: Tensor, key: Key) -> Tensor:
        return functional.adjust_brightness(frames, _factor(key, "brightness", self.brightness))

    def _contrast(self, frames: Tensor, key: Key) -> Tensor:
        return functional.adjust_contrast(frames, _factor(key, "contrast", self.contrast))

    def _saturation(self, frames: Tensor, key: Key) -> Tensor:
        return functional.adjust_saturation(frames, _factor(key, "saturation", self.saturation))

    def _hue(self, frames: Tensor, key: Key) -> Tensor:
        return functional.adjust_hue(frames, key.stream("hue").uniform(-self.hue, self.hue))

    def _grey(self, frames: Tensor, key: Key) -> Tensor:
        grey = key.stream("grey").random() < self.grey
        return functional.rgb_to_grayscale(frames, num_output_channels=3) if grey else frames

    def _erase(self, frames: Tensor, keep: Tensor, key: Key) -> Tensor:
        stream = key.stream("erase")
        if stream.random() >= self.erase:
            return frames
        height, width = frames.shape[-2:]
        area = stream.uniform(*ERASED_SHARE)
        stretch = math.exp(stream.uniform(-1, 1) * math.log(ERASED_ASPECT))
        high = min(height, max(1, round(height * math.sqrt(area / stretch))))
        wide = min(width, max(1, round(width * math.sqrt(area * stretch))))
        top, left = stream.randint(0, height - high), stream.randint(0, width - wide)
        colour = frames[keep].float().mean(dim=(0, 2, 3)).round().to(torch.uint8)
        return functional.erase(frames, top, left, high, wide, colour[:, None, None])

    def _mask(self, frames: Tensor, keep: Tensor, key: Key) -> Tensor:
        stream = key.stream("picture_masks")
        shown = keep.nonzero()[:, 0]
        masked, mean = frames.clone(), frames[shown].float().mean(dim=0).round().to(torch.uint8)
        for _ in range(self.masks):
            length = stream.randint(0, min(self.mask_frames, len(shown)))
            at = stream.randint(0, len(shown) - length)
            masked[shown[at : at + length]] = mean
        return masked


def _factor(key: Key, name: str, reach: float) -> float:
    return key.stream(name).uniform(max(0.0, 1 - reach), 1 + reach)
