"""One decoded frame -> upright RGB of the size that was asked for."""

from __future__ import annotations

from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

Fit = Literal["stretch", "crop", "pad", "cover"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad", "cover")
_MAX_SIDE = 1 << 14  # of a picture before its middle is cut: one of a pixel by a thousand would fill the memory
_HDR_TRANSFERS = {16: "pq", 18: "hlg"}  # SMPTE 2084 and ARIB STD-B67, as ITU-T H.273 numbers them


def transfer(color_trc: int) -> str | None:
    """ "pq" or "hlg" where the transfer characteristic is an HDR one."""
    return _HDR_TRANSFERS.get(int(color_trc))


class Renderer:
    """Frames to (H, W, 3) uint8 RGB. One swscale context for all: a fresh one a frame costs as much as decoding.

    `size` (height, width) None keeps the first frame's size. `fit` says what happens when the shape differs:
    "stretch" scales each side by itself, "crop" fills the size and cuts the middle, "pad" fits inside black borders,
    "cover" fills the size and cuts nothing: one side is as asked, the other as long as the picture's shape makes it.
    All but "stretch" respect non-square pixels: `pixel_aspect` is width over height of one stored pixel. HDR is
    converted by matrix only, not tone-mapped; interlaced frames are not deinterlaced.
    """

    def __init__(self, size: tuple[int, int] | None, fit: Fit, pixel_aspect: float = 1.0) -> None:
        self.size = size
        self.fit = fit
        self.pixel_aspect = pixel_aspect
        self.issues: set[str] = set()
        self._reformatter = VideoReformatter()
        self._shape: tuple[int, int] | None = None
        self._covering: tuple[int, int] | None = None  # the first frame's, for all

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4
        if turns:
            self.issues.add("rotated")
        if transfer(frame.color_trc):
            self.issues.add("hdr")
        if frame.interlaced_frame:
            self.issues.add("interlaced")
        if self._shape not in (None, (frame.height, frame.width)):
            self.issues.add("format_change")
        self._shape = (frame.height, frame.width)
        upright = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
        self.size = self.size or upright
        height, width = self._scaled(upright, 1 / self.pixel_aspect if turns % 2 else self.pixel_aspect)
        if self.fit == "cover":
            self._covering = height, width = self._covering or (height, width)
        stored = (width, height) if turns % 2 else (height, width)
        rgb = self._scale(frame, stored)
        if self.fit == "cover":
            return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
        return _centre(np.rot90(rgb, turns) if turns else rgb, self.size)

    def _scaled(self, upright: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
        """The (height, width) to scale the upright picture to, before the middle is cut or bordered."""
        assert self.size is not None
        if self.fit == "stretch":
            return self.size
        high, wide = self.size[0] / upright[0], self.size[1] / (upright[1] * pixel_aspect)
        factor = min(high, wide) if self.fit == "pad" else max(high, wide)
        sides = upright[0] * factor, upright[1] * pixel_aspect * factor
        return min(max(round(sides[0]), 1), _MAX_SIDE), min(max(round(sides[1]), 1), _MAX_SIDE)

    def _scale(self, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
        height, width = size
        shrinks = height < frame.height and width < frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        )
        return rgb.to_ndarray()


def _centre(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` (h, w, 3) with its middle on the middle of a (height, width, 3) canvas, cut and bordered in black."""
    if image.shape[:2] == size:
        return image
    out = np.zeros((*size, 3), np.uint8)
    source, target = [], []
    for have, want in zip(image.shape[:2], size, strict=True):
        shared = min(have, want)
        source.append(slice((have - shared) // 2, (have - shared) // 2 + shared))
        target.append(slice((want - shared) // 2, (want - shared) // 2 + shared))
    out[tuple(target)] = image[tuple(source)]
    return out
