"""A file as a row of windows, decoded once from beginning to end with memory for little more than one window.

Picture and sound are read side by side, each from an opening of its own: however the file mixes them, neither has to
wait in memory for the other. What window k holds is what read_clip gives for its span.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from av.audio.frame import AudioFrame
from av.container.input import InputContainer
from av.stream import Discard
from av.video.frame import VideoFrame

from mmattn.errors import MediaError
from mmattn.media.open.clock_jumps import may_jump
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.source import Source, name_of
from mmattn.media.open.streams import AnyStream, Chosen, cut_off, demux, time_base
from mmattn.media.read.audio.downmix import Downmix
from mmattn.media.read.audio.track import SoundTrack
from mmattn.media.read.decode import DecodedClip, decoded, viewed
from mmattn.media.read.frames import FrameTimes, slack
from mmattn.media.read.passes.reading import Reached, Reading, Taken
from mmattn.media.read.passes.sequential import frames_of
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Fit
from mmattn.media.read.video.tone_map import Hdr
from mmattn.media.read.windows.views import FrameView, Viewing

if TYPE_CHECKING:
    from mmattn.types import Clip

_CRUMB_S = 0.1  # a rest shorter than this gets no window of its own: encoders pad the sound by a block
_RUN_UP_S = 1.0  # of sound before a window, so that it is placed as if all before it had been heard
_CLOCK = Request(video=False, start=1e9)  # the place of all sound, and none of it kept
_MOST_OVERLAP = 1000  # windows at any moment


@dataclass(frozen=True)
class Windows:
    """Window k is window_s s from k hop_s after the start of `request`, which says what is wanted of each.

    `views`: its picture in other ways too, `audio_rates`: its sound at other rates too, from the same decode.
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
            raise ValueError("views are of the picture, and the request leaves it out")
        for view in self.views:
            view.of(self.request)  # a wrong one is refused before any file is opened
        for rate in self.audio_rates:
            replace(self.request, audio_rate=rate)

    def of(self, k: int) -> Request:
        start = self._start(k)
        return replace(self.request, start=start, end=start + self.window_s)

    def goal(self, k: int) -> float:
        """Window k + 1 is there if the file goes on beyond this, s."""
        return max(self._start(k) + self.window_s, self._start(k + 1)) + _CRUMB_S

    def _start(self, k: int) -> float:
        return self.request.start + k * self.hop_s


def iter_windows(
    src: Source,
    window_s: float,
    hop_s: float | None = None,
    *,
    fps: float | None = None,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit = "stretch",
    audio_rate: int | None = 16000,
    video: bool = True,
    audio: bool = True,
    video_stream: int | None = None,
    audio_stream: int | str | None = None,
    hdr: Hdr = "tonemap",
    deinterlace: bool = True,
    downmix: Downmix = "bs775",
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Iterator[Clip]:
    """All of `src` as windows of `window_s` s every `hop_s` s (None: window_s), in one pass, in bounded memory.

    Window k is what read_clip(start=k * hop_s, end=k * hop_s + window_s) with the same arguments gives, frame for
    frame and sample for sample. The last window is the first to reach the file's end, and as short as what is left:
    its span is whole, its frames and samples are those that are there. A rest below 0.1 s gets no window of its own.
    There is always a first window. `deadline_s` is for one window, the caller's time between two not counted;
    `limits` hold for each window. `issues` are those met since the window before, and those of the whole file.
    Raises ValueError at once for the arguments, MediaError on the way for the file: the windows before stand.
    """
    asked = (size, fit, audio_rate, video, audio, video_stream, audio_stream, hdr, deinterlace)
    request = Request(None, fps, frames, 0.0, window_s, *asked, downmix=downmix)
    windows = Windows(window_s, window_s if hop_s is None else hop_s, request)
    return (part.clip() for part in decode_windows(windows, src, limits, deadline_s, follow_symlinks))


def decode_windows(
    windows: Windows,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Iterator[DecodedClip]:
    """iter_windows for a question that is already checked, in numpy's arrays."""
    path = name_of(src)
    asked = windows.request
    whole = Reading(src, path, asked, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)
    try:
        with ExitStack() as opened:
            container = opened.enter_context(whole.open())
            chosen = whole.choose(container)
            pictures = sounds = None
            if asked.video and chosen.video is not None:
                pictures = _Pictures(whole, windows, container, chosen)
            if asked.audio and chosen.audio is not None:
                beside = container if pictures is None else opened.enter_context(whole.open())
                sounds = _Sounds(whole, windows, beside, whole.choose(beside))
            duration = whole.duration(container)
            k, goes_on = 0, True
            while goes_on:
                whole.deadline.restart()
                reading = replace(whole, request=windows.of(k))
                grid = reading.grid(0.0)
                shown = None if pictures is None else pictures.take(k)
                sound, *resampled = [None] * (1 + len(windows.audio_rates)) if sounds is None else sounds.take(k)
                whole.deadline.check()  # when it passes, the file seems to end
                tracks = [track for track in (pictures, sounds) if track is not None]
                goes_on = any(track.end > windows.goal(k) for track in tracks)
                if (reached := max((track.end for track in tracks), default=0.0)) > whole.limits.duration_s:
                    raise MediaError(path, "too_long", f"{reached:.0f} s, at most {whole.limits.duration_s:.0f}")
                issues = set(chosen.issues).union(*(track.issues for track in tracks))
                if all(track.ended for track in tracks) and cut_off(container, chosen, _ends(tracks)):
                    issues.add("truncated")
                fruitless = bool(tracks) and not any(track.decoded for track in tracks)
                taken = Taken(None if shown is None else shown[0][1], sound, issues, duration, fruitless)
                others = [(grid, [])] * len(windows.views) if shown is None else shown[1:]
                yield replace(
                    decoded(reading, taken, grid),
                    views=tuple(viewed(*other) for other in others),
                    sounds=tuple(None if track is None else track.waveform() for track in resampled),
                )
                for track in tracks:
                    track.issues.clear()
                k += 1
    except MemoryError as error:
        raise MediaError(path, "too_large", "out of memory") from error


class _Track:
    """The frames of one stream in turn. `end` s: how far it is known to go."""

    def __init__(self, reading: Reading, container: InputContainer, stream: AnyStream, origin: float) -> None:
        if not may_jump(container):  # else the other streams tell too where the clock jumps
            for other in container.streams:
                other.discard = Discard.default if other.index == stream.index else Discard.all
        self.reading, self.stream, self.origin = reading, stream, origin
        self.reached = Reached(origin, None)
        self.issues: set[str] = set()
        self.decoded = 0
        self.ended = False
        self.end = 0.0
        self._frames = self._decode(container)

    def _decode(self, container: InputContainer) -> Iterator[VideoFrame | AudioFrame]:
        for packet in demux(container, self.stream, issues=self.issues):
            self.reading.check(packet)
            self.reached.past(packet)
            for frame in frames_of(packet, self.issues):
                self.decoded += 1
                yield frame


class _Pictures(_Track):
    """The frame shown now, and the windows that look at it."""

    def __init__(self, reading: Reading, windows: Windows, container: InputContainer, chosen: Chosen) -> None:
        assert chosen.video is not None
        super().__init__(reading, container, chosen.video, chosen.origin)
        self._windows = windows
        self._views = [Viewing(reading, view, chosen.video) for view in (None, *windows.views)]
        self._line = FrameTimes(chosen.video, chosen.origin)
        self._slack = slack(chosen.video)
        self._opened = 0
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._until = -math.inf  # when the frame shown gives way to the next, s

    def take(self, k: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Of window k, asked for in turn: each view's grid and its images (H, W, 3)."""
        goal = self._windows.goal(k)
        while self._opened <= k or self._windows.of(self._opened).start < goal:
            for view in self._views:
                view.open(self._windows.of(self._opened))
            self._opened += 1
        self._show()
        while (self._until < goal or self._shown is None) and not self.ended:
            self._step()
            self._show()
        self.issues.update(*(view.issues for view in self._views), {"pts_fixed"} if self._line.fixed else ())
        return [view.take() for view in self._views]

    def _step(self) -> None:
        self._shown = self._next or self._shown
        self._next = next(self._frames, None)  # type: ignore[assignment]
        if self._next is not None:
            self._until = self._line.place(self._next.pts, self._next.duration) - self._slack
            self.end = self._line.end or 0.0
        else:
            self.ended = True
            self._until = -math.inf if self._line.end is None else self._line.end - 1e-6

    def _show(self) -> None:
        """The frame shown serves the grid times before `_until`."""
        if self._shown is not None:
            for view in self._views:
                view.show(self._shown, self._until)


class _Sounds(_Track):
    """The decoded sound of little more than one window."""

    def __init__(self, reading: Reading, windows: Windows, container: InputContainer, chosen: Chosen) -> None:
        assert chosen.audio is not None
        super().__init__(reading, container, chosen.audio, chosen.origin)
        self._windows = windows
        self._stream = chosen.audio
        self._tick = time_base(chosen.audio)
        self._clock = replace(reading, request=_CLOCK).sound(chosen.audio)
        self._recent: deque[tuple[AudioFrame, float, float]] = deque()  # frame, its start, end, s

    def take(self, k: int) -> list[SoundTrack]:
        """The sound of window k, asked for in turn: at the rate of the request, then at each other rate."""
        request, goal = self._windows.of(k), self._windows.goal(k)
        while self._recent and self._recent[0][2] < request.start - _RUN_UP_S:
            self._recent.popleft()
        while self.end <= goal and not self.ended:
            self._step(request.start - _RUN_UP_S)
        self.issues |= self._clock.issues
        return [
            self._track(replace(request, audio_rate=rate)) for rate in (request.audio_rate, *self._windows.audio_rates)
        ]

    def _track(self, request: Request) -> SoundTrack:
        track = replace(self.reading, request=request).sound(self._stream)
        track.lattice, track.is_open = self._clock.lattice, True
        for frame, time, _ in self._recent:
            track.add(frame, time)
        return track

    def _step(self, since: float) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self.ended = True
        elif isinstance(frame, AudioFrame) and frame.samples and frame.sample_rate:
            stamp = None if frame.pts is None else frame.pts * self._tick - self.origin
            time = self._clock.place(stamp)
            self._clock.add(frame, stamp)
            self.end = self._clock.last_end
            if time + frame.samples / frame.sample_rate >= since:
                self._recent.append((frame, time, time + frame.samples / frame.sample_rate))


def _ends(tracks: list) -> dict[int, float]:
    return {index: end for track in tracks for index, end in track.reached.ends.items()}
