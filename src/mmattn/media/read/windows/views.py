"""Several versions of one video from one decode: each view has its own rate, size and windows."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmattn.media.read.frames import check_size, renderer
from mmattn.media.read.passes.reading import Reading
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Fit
from mmattn.media.read.video.resample import Resample


@dataclass(frozen=True)
class FrameView:
    """Frames at `fps`, as `size` (height, width) pixels; None: the file's own. See Request.

    `middles`: at (k + 0.5) / fps s of the file, whatever the window's start.
    """

    fps: float
    size: tuple[int, int] | None = None
    fit: Fit = "stretch"
    resample: Resample = "swscale"
    resize: int | tuple[int, int] | None = None
    middles: bool = False

    def of(self, request: Request) -> Request:
        """`request` with this view's rate and size."""
        shown = {"size": self.size, "fit": self.fit, "resample": self.resample, "resize": self.resize}
        return replace(request, fps=self.fps, frames=None, **shown)

    def grid(self, start: float, end: float) -> np.ndarray:
        """The times (k + 0.5) / fps (T,), s, in [start, end)."""
        first, last = (math.ceil(edge * self.fps - 0.5 - 1e-6) for edge in (start, end))
        return (np.arange(first, max(first, last)) + 0.5) / self.fps


class ViewWindows:
    """The images of one view's windows, collected while the video is decoded.

    A window is opened before its first frame is decoded and taken after its last.
    """

    def __init__(self, reading: Reading, view: FrameView | None, stream: VideoStream) -> None:
        """`view` None: as in the reading's request."""
        self._reading, self._view = reading, view
        self._render = renderer(reading.request if view is None else view.of(reading.request), stream)
        self._waiting: deque[tuple[np.ndarray, list[np.ndarray]]] = deque()  # of the open windows: grid, images
        self._frame: VideoFrame | None = None
        self._image: np.ndarray | None = None

    @property
    def issues(self) -> set[str]:
        """What was unusual about the frames so far."""
        return self._render.issues

    def open(self, request: Request) -> None:
        """The next window, as its request says."""
        asked = request if self._view is None else self._view.of(request)
        self._waiting.append((self._grid(asked), []))

    def show(self, frame: VideoFrame, until: float) -> None:
        """Use `frame` for the grid times before `until` s that have no image yet."""
        if frame is not self._frame:
            self._frame, self._image = frame, None
        for grid, images in self._waiting:
            count = int(np.searchsorted(grid, until, side="left")) - len(images)
            if count > 0:
                self._image = self._render(frame) if self._image is None else self._image
                check_size(self._image, len(grid), self._reading.path, self._reading.limits)
                images += [self._image] * count

    def take(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The grid and images (H, W, 3) of the window that was opened first."""
        return self._waiting.popleft()

    def _grid(self, request: Request) -> np.ndarray:
        if self._view is not None and self._view.middles:
            return self._view.grid(request.start, self._reading.request.start if request.end is None else request.end)
        return replace(self._reading, request=request).grid(0.0)
