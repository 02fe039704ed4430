"""One decoded frame becomes upright RGB of the requested size."""

from __future__ import annotations

from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from mmattn.media.read.video.deinterlace import deinterlaced
from mmattn.media.read.video.matrix import matrix
from mmattn.media.read.video.orientation import Orientation, orientation
from mmattn.media.read.video.resample import Resample, middle, resample, scaled_size
from mmattn.media.read.video.tone_map import Hdr, tone_map, transfer

Fit = Literal["stretch", "crop", "pad", "cover"]
FITS: tuple[Fit, ...] = ("stretch", "crop", "pad", "cover")
_MAX_SIDE = 1 << 14  # pixels, before the middle is cut: a frame of 1 x 1000 would fill the memory


def shown_size(width: int, height: int, pixel_aspect: float, sideways: bool) -> tuple[int, int]:
    """The (height, width) of a stored frame made upright, with square pixels.

    The stored height is kept; `pixel_aspect` is width over height of one stored pixel.
    """
    wide = min(max(round(width * pixel_aspect), 1), _MAX_SIDE)
    return (wide, height) if sideways else (height, wide)


class Renderer:
    """Converts frames to (H, W, 3) uint8 RGB. One swscale context for all: a new one each time is as slow as decoding.

    `size` (height, width) None keeps the displayed size of the first frame. `fit`: for another shape, "stretch" scales
    each side separately, "crop" fills the size and cuts out the middle, "pad" fits the frame inside black
    borders, "cover" fills the size and cuts nothing: one side is as requested, the other longer. All but "stretch"
    respect non-square pixels: `pixel_aspect` is width over height of one stored pixel. `hdr` "tonemap" maps PQ and HLG
    to standard range, "as_is" converts by matrix only. `deinterlace`: frames that are marked as interlaced. Each
    conversion is reported in `issues`.

    `resample` "swscale" converts and scales in one step; otherwise frames of full size are resized as the named library
    does it. `resize`, for "stretch" and "crop": the size before the middle is cut out, as the shorter side or (height,
    width); None: `size`.
    """

    def __init__(
        self,
        size: tuple[int, int] | None,
        fit: Fit,
        pixel_aspect: float = 1.0,
        hdr: Hdr = "tonemap",
        deinterlace: bool = True,
        resample: Resample = "swscale",
        resize: int | tuple[int, int] | None = None,
    ) -> None:
        self.size = size
        self.resample: Resample = resample
        self.resize = resize
        self.fit = fit
        self.pixel_aspect = pixel_aspect
        self.hdr = hdr
        self.deinterlace = deinterlace
        self.issues: set[str] = set()
        self._reformatter = VideoReformatter()
        self._shape: tuple[int, int] | None = None
        self._covering: tuple[int, int] | None = None  # of the first frame, used for all

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """The image (H, W, 3) uint8 of `frame`."""
        turned = orientation(frame)
        if turned.turns:
            self.issues.add("rotated")
        if turned.mirrored:
            self.issues.add("mirrored")
        if self._shape not in (None, (frame.height, frame.width)):
            self.issues.add("format_change")
        self._shape = (frame.height, frame.width)
        shown = shown_size(frame.width, frame.height, self.pixel_aspect, turned.is_sideways)
        self.size = self.size or shown
        height, width = self._scaled(frame, turned)
        if self.fit == "cover":
            self._covering = height, width = self._covering or (height, width)
        if self.resample == "swscale":
            rgb = turned.upright(self._to_rgb(frame, (width, height) if turned.is_sideways else (height, width)))
        else:
            whole = turned.upright(self._to_rgb(frame, (frame.height, frame.width)))
            rgb = resample(np.ascontiguousarray(whole), (height, width), self.resample)
        if self.fit == "cover":
            return np.ascontiguousarray(rgb)
        if self.resample != "swscale" and self.fit != "pad":
            rgb = middle(rgb, self.size, self.resample)
        return _centre(np.ascontiguousarray(rgb), self.size)

    def _scaled(self, frame: VideoFrame, turned: Orientation) -> tuple[int, int]:
        """The (height, width) of the scaled upright frame, before the middle is cut or borders are added."""
        assert self.size is not None
        stored = frame.height, frame.width * self.pixel_aspect
        upright = stored[::-1] if turned.is_sideways else stored
        if self.resize is not None:
            return scaled_size(upright, self.size, self.resize)
        if self.fit == "stretch":
            return self.size
        high, wide = self.size[0] / upright[0], self.size[1] / upright[1]
        factor = min(high, wide) if self.fit == "pad" else max(high, wide)
        sides = upright[0] * factor, upright[1] * factor
        return min(max(round(sides[0]), 1), _MAX_SIDE), min(max(round(sides[1]), 1), _MAX_SIDE)

    def _to_rgb(self, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """The frame in RGB of `size` (height, width), deinterlaced and tone-mapped, not yet upright."""
        kind, primaries = transfer(frame.color_trc), frame.color_primaries
        space, assumed = matrix(frame)
        self.issues |= assumed
        if frame.interlaced_frame:
            self.issues.add("interlaced")
            if self.deinterlace:
                self.issues.add("deinterlaced")
                frame = deinterlaced(frame, size[0])
        if kind:
            self.issues.add("hdr")
            if self.hdr == "tonemap":
                self.issues.add("tonemapped")
                return tone_map(self._scale(frame, size, space, "rgb48le"), kind, primaries)
        return self._scale(frame, size, space, "rgb24")

    def _scale(self, frame: VideoFrame, size: tuple[int, int], space: Colorspace | None, pixels: str) -> np.ndarray:
        height, width = size
        shrinks = height < frame.height and width < frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixels,
            src_colorspace=space,
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        )
        return rgb.to_ndarray()


def _centre(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` (h, w, 3) centred on a black canvas (height, width, 3) and cut to it."""
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
