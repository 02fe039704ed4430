"""What to read from one file. A wrong request is a ValueError, never a MediaError: the file is not at fault."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.media.read.audio.downmix import DOWNMIXES, Downmix
from mmattn.media.read.grid import fps_grid, given_grid, uniform_grid
from mmattn.media.read.video.render import FITS, Fit
from mmattn.media.read.video.resample import RESAMPLES, Resample
from mmattn.media.read.video.tone_map import HDRS, Hdr

_MAX_SIDE = 16384  # pixels
_MAX_RATE = 768_000  # Hz
_CHOICES = {"fit": FITS, "hdr": HDRS, "resample": RESAMPLES, "downmix": DOWNMIXES}


@dataclass(frozen=True)
class Request:
    """The arguments of read_clip, checked. Times in s, `size` (height, width) in pixels, `audio_rate` in Hz.

    `video_stream`, `audio_stream`: a stream's index in the file (probe lists them), for audio also a language; None =
    the best one. `measure_end`: where the header cannot be trusted, find the file's end by a pass over its packets.
    `downmix`: of more than two channels, "bs775" (ITU-R) or "mean". `hdr`, `deinterlace`, `resample`, `resize`: see
    Renderer.
    """

    times: Sequence[float] | None = None
    fps: float | None = None
    frames: int | None = None
    start: float = 0.0
    end: float | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "stretch"
    audio_rate: int | None = 16000
    video: bool = True
    audio: bool = True
    video_stream: int | None = None
    audio_stream: int | str | None = None
    hdr: Hdr = "tonemap"
    deinterlace: bool = True
    measure_end: bool = False
    downmix: Downmix = "bs775"
    resample: Resample = "swscale"
    resize: int | tuple[int, int] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("times", "fps", "frames") if getattr(self, name) is not None]
        if self.video and len(given) != 1:
            raise ValueError(f"give exactly one of times=, fps= or frames=, got {' and '.join(given) or 'none'}")
        if not (self.video or self.audio):
            raise ValueError("video=False and audio=False leaves nothing to read")
        self._check_span()
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, got {getattr(self, name)!r}")
        if not isinstance(self.deinterlace, bool):
            raise ValueError(f"deinterlace must be True or False, got {self.deinterlace!r}")
        check_resize(self.resize, self.size, self.fit)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1 or max(self.size) > _MAX_SIDE):
            raise ValueError(f"size must be (height, width), each 1 to {_MAX_SIDE} pixels, got {self.size}")
        if self.audio_rate is not None and not 1 <= self.audio_rate <= _MAX_RATE:
            raise ValueError(f"audio_rate must be 1 to {_MAX_RATE} Hz, got {self.audio_rate}")
        check_streams(self.video_stream, self.audio_stream)
        if self.video:
            self._check_grid()

    def _check_span(self) -> None:
        if not (self.start >= 0 and math.isfinite(self.start)):
            raise ValueError(f"start must be a time in s from 0, got {self.start}")
        if self.end is not None and not self.start < self.end < math.inf:
            raise ValueError(f"end must be a time in s after start = {self.start} or None, got {self.end}")

    def _check_grid(self) -> None:
        """Raise ValueError for a wrong grid before any file is opened."""
        if self.times is not None:
            given_grid(self.times, math.inf)
        if self.fps is not None:
            fps_grid(self.fps, 0.0, 0.0)
        if self.frames is not None:
            uniform_grid(self.frames, 0.0, 0.0)

    def count(self, video_end: float) -> float:
        """The largest possible length of `grid`, without making it."""
        end = video_end if self.end is None else self.end
        if self.times is not None:
            return len(self.times)
        return (end - self.start) * self.fps + 1 if self.fps is not None else self.frames or 0

    @property
    def needs_extent(self) -> bool:
        """Whether the grid depends on where the file's video ends."""
        return self.video and self.end is None and self.times is None

    def grid(self, video_end: float) -> np.ndarray:
        """The grid times (T,), s; `video_end` replaces an `end` of None."""
        end = video_end if self.end is None else self.end
        if self.times is not None:
            return given_grid(self.times, math.inf if self.end is None else self.end)
        if self.fps is not None:
            return fps_grid(self.fps, self.start, end)
        assert self.frames is not None
        return uniform_grid(self.frames, self.start, end)


def check_resize(resize: int | tuple[int, int] | None, size: tuple[int, int] | None, fit: Fit) -> None:
    """Raise ValueError for a `resize` that does not fit `size` and `fit`."""
    if resize is None:
        return
    sides = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(sides) != 2 or size is None or fit not in ("stretch", "crop"):
        raise ValueError(f"resize must be pixels or (height, width), with a size and fit stretch or crop, got {resize}")
    if any(not want <= side <= _MAX_SIDE for side, want in zip(sides, size, strict=True)):
        raise ValueError(f"resize must be at least size and at most {_MAX_SIDE} pixels, got {resize} for {size}")


def check_streams(video_stream: int | None, audio_stream: int | str | None) -> None:
    """Raise ValueError for values that cannot name a stream."""
    for name, stream in (("video_stream", video_stream), ("audio_stream", audio_stream)):
        index = isinstance(stream, int) and not isinstance(stream, bool) and stream >= 0
        language = name == "audio_stream" and isinstance(stream, str) and bool(stream.strip())
        if not (stream is None or index or language):
            kinds = "an index from 0" if name == "video_stream" else 'an index from 0 or a language such as "eng"'
            raise ValueError(f"{name} must be {kinds}, got {stream!r}")
