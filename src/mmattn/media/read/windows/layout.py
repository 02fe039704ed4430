"""The windows of a file, and what is read of each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mmattn.media.read.request import Request
from mmattn.media.read.windows.views import FrameView

_CRUMB_S = 0.1  # a shorter remainder gets no window of its own: encoders pad the audio by a block
_MOST_OVERLAP = 1000  # windows at any time


@dataclass(frozen=True)
class Windows:
    """Window k is `window_s` s long and begins k * `hop_s` s after the start of `request`, which says what to read.

    `views`: additional versions of its frames, `audio_rates`: additional rates of its audio, from the same decode.
    """

    window_s: float
    hop_s: float
    request: Request
    views: tuple[FrameView, ...] = ()
    audio_rates: tuple[int, ...] = ()  # Hz

    def __post_init__(self) -> None:
        if not 0 < self.window_s < math.inf:
            raise ValueError(f"window_s must be a positive number of seconds, got {self.window_s}")
        if not self.window_s / _MOST_OVERLAP <= self.hop_s < math.inf:
            raise ValueError(f"hop_s must be at least window_s / {_MOST_OVERLAP}, got {self.hop_s}")
        if self.request.times is not None:
            raise ValueError("windows take fps= or frames=, not times=")
        if self.views and not self.request.video:
            raise ValueError("views are of the video, and the request has video=False")
        for view in self.views:
            view.of(self.request)  # raises for a wrong one before any file is opened
        for rate in self.audio_rates:
            replace(self.request, audio_rate=rate)

    def of(self, k: int) -> Request:
        """The request for window k."""
        start = self._start(k)
        return replace(self.request, start=start, end=start + self.window_s)

    def goal(self, k: int) -> float:
        """Window k + 1 exists if the file continues beyond this time, s."""
        return max(self._start(k) + self.window_s, self._start(k + 1)) + _CRUMB_S

    def _start(self, k: int) -> float:
        return self.request.start + k * self.hop_s
