"""Resize RGB as image libraries do it, for pretrained networks.

The filters of swscale differ, and so do a pretrained network's outputs. torch, and so transformers, resizes across,
then down, with 16-bit weights, and rounds to integers after each. torchvision's video transforms resize in float32,
without antialiasing. timm and torchvision's image transforms resize with Pillow.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

Resample = Literal[
    "swscale",
    "transformers_bicubic",
    "transformers_bilinear",
    "torchvision_bilinear",  # its video transforms, without antialiasing
    "pillow_bicubic",
    "pillow_bilinear",
]
RESAMPLES: tuple[Resample, ...] = get_args(Resample)
_TRANSFORMERS = "transformers_"
_BICUBIC, _ALIASED = "transformers_bicubic", "torchvision_bilinear"
_AT_ONCE = 32  # output pixels computed by one matrix product
_WEIGHT_BITS = 15

Bands = tuple[tuple[int, int, int, np.ndarray], ...]  # first source pixel, first and last output pixel, weights


def resample(rgb: np.ndarray, size: tuple[int, int], kind: Resample) -> np.ndarray:
    """Resize (H, W, 3) uint8 to `size`, (height, width, 3) uint8, as the library named by `kind` does it."""
    if rgb.shape[:2] == size:
        return rgb
    if kind.startswith("pillow_"):
        from PIL import Image

        method = Image.Resampling.BICUBIC if kind == "pillow_bicubic" else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(rgb).resize((size[1], size[0]), method))
    planes = rgb.transpose(2, 0, 1)
    across = _along_last(planes, size[1], kind)
    out = _along_last(across.transpose(0, 2, 1), size[0], kind).transpose(2, 1, 0)
    return out if out.dtype == np.uint8 else np.rint(out).astype(np.uint8)


def scaled_size(
    shown: tuple[float, ...], size: tuple[int, int], resize: int | tuple[int, int] | None
) -> tuple[int, int]:
    """The (height, width) to which image libraries resize an image of shape `shown` before they cut out `size`.

    `resize`: the shorter side, or both; None: `size`.
    """
    if not isinstance(resize, int):
        return resize or size
    longer = int(resize * max(shown) / min(shown))
    return (resize, longer) if shown[0] <= shown[1] else (longer, resize)


def middle(rgb: np.ndarray, size: tuple[int, int], kind: Resample) -> np.ndarray:
    """The middle of `size` from a larger image; half pixels are rounded as the library does it."""
    rounded = math.floor if kind.startswith(_TRANSFORMERS) else round
    top, left = (rounded((have - want) / 2) for have, want in zip(rgb.shape[:2], size, strict=True))
    return rgb[top : top + size[0], left : left + size[1]]


def _along_last(planes: np.ndarray, length: int, kind: Resample) -> np.ndarray:
    """Resize the last axis of (C, N, n) to `length`; rounded to uint8 unless the library rounds only at the end."""
    if planes.shape[-1] == length:
        return planes
    bits, bands = _bands(planes.shape[-1], length, kind)
    exact = np.float32 if bits <= 16 else np.float64  # exact for integers up to 255 * 2^bits
    out = np.empty((*planes.shape[:2], length), np.uint8 if bits else np.float32)
    for start, first, last, weights in bands:
        total = planes[..., start : start + len(weights)].astype(exact) @ weights.astype(exact)
        out[..., first:last] = np.clip(np.floor(total / (1 << bits) + 0.5), 0, 255) if bits else total
    return out


@lru_cache(maxsize=64)
def _bands(size: int, length: int, kind: str) -> tuple[int, Bands]:
    """The weights of each output as integers, and the bits of a weight of 1; 0 bits: weights as floats."""
    spans, largest = _weights(size, length, kind)
    bits = 0
    while kind != _ALIASED and bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < 1 << _WEIGHT_BITS:
        bits += 1
    bands = []
    for first in range(0, length, _AT_ONCE):
        last = min(first + _AT_ONCE, length)
        start = min(low for low, _ in spans[first:last])
        stop = max(low + len(values) for low, values in spans[first:last])
        weights = np.zeros((stop - start, last - first), np.float32)
        for column, (low, values) in enumerate(spans[first:last]):
            whole = np.trunc(values * (1 << bits) + np.copysign(0.5, values)) if bits else values
            weights[low - start : low - start + len(values), column] = whole
        bands.append((start, first, last, weights))
    return bits, tuple(bands)


def _weights(size: int, length: int, kind: str) -> tuple[list[tuple[int, np.ndarray]], float]:
    """For each output its first input and its weights, which sum to 1; and the largest weight of all."""
    scale = size / length
    if kind == _ALIASED:
        return [_neighbours(np.float32(scale), place, size) for place in range(length)], 1.0
    stretch = max(scale, 1.0)
    support = (2.0 if kind == _BICUBIC else 1.0) * stretch
    spans, largest = [], 0.0
    for place in range(length):
        centre = scale * (place + 0.5)
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), size)
        values = np.array([_filter((at - centre + 0.5) / stretch, kind) for at in range(low, high)])
        values /= values.sum()
        largest = max(largest, float(values.max()))
        spans.append((low, values))
    return spans, largest


def _neighbours(scale: np.float32, place: int, size: int) -> tuple[int, np.ndarray]:
    """The two neighbours of an output without antialiasing, in float32 as in torch, so that halves round alike."""
    at = max(scale * np.float32(place + 0.5) - np.float32(0.5), np.float32(0))
    low = min(int(at), size - 1)
    share = at - np.float32(low)
    return low, np.array([1 - share, share] if low < size - 1 else [1.0], np.float32)


def _filter(x: float, kind: str) -> float:
    """The triangle, or the cubic of Keys 1981 with a = -1/2."""
    x = math.fabs(x)
    if kind != _BICUBIC:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
