"""The decoded frames of one stream, given to the windows that need them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from av.audio.frame import AudioFrame
from av.container.input import InputContainer
from av.stream import Discard
from av.video.frame import VideoFrame

from mmattn.media.open.clock_jumps import may_jump
from mmattn.media.open.streams import AnyStream, Chosen, time_base
from mmattn.media.read.audio.track import AudioTrack
from mmattn.media.read.frames import FrameTimes, slack
from mmattn.media.read.passes.reading import Reached, Reading
from mmattn.media.read.passes.sequential import frames_of
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows
from mmattn.media.read.windows.views import ViewWindows

_RUN_UP_S = 1.0  # of audio before a window, so that its samples are placed as in a decode from the beginning
_CLOCK = Request(video=False, start=1e9)  # places all audio, and keeps none of it


class Track:
    """Decodes one stream in turn. `end`: how far it is known to reach, s."""

    def __init__(self, reading: Reading, container: InputContainer, stream: AnyStream, origin: float) -> None:
        if not may_jump(container):  # otherwise the other streams are needed to find jumps of the clock
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
        for packet in self.reading.packets(container, self.stream, issues=self.issues):
            self.reached.past(packet)
            for frame in frames_of(packet, self.issues):
                self.decoded += 1
                yield frame


class VideoWindows(Track):
    """The video of each window: its grid and images, in every view."""

    def __init__(self, reading: Reading, windows: Windows, container: InputContainer, chosen: Chosen) -> None:
        assert chosen.video is not None
        super().__init__(reading, container, chosen.video, chosen.origin)
        self._windows = windows
        self._views = [ViewWindows(reading, view, chosen.video) for view in (None, *windows.views)]
        self._line = FrameTimes(chosen.video, chosen.origin)
        self._slack = slack(chosen.video)
        self._opened = 0
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._until = -math.inf  # until when the present frame is shown, s

    def take(self, k: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """The grid and images (H, W, 3) of window k in each view. Windows are taken in order."""
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
        """Use the present frame for the grid times before `_until`."""
        if self._shown is not None:
            for view in self._views:
                view.show(self._shown, self._until)


class AudioWindows(Track):
    """The audio of each window; holds little more than one window of decoded frames."""

    def __init__(self, reading: Reading, windows: Windows, container: InputContainer, chosen: Chosen) -> None:
        assert chosen.audio is not None
        super().__init__(reading, container, chosen.audio, chosen.origin)
        self._windows = windows
        self._stream = chosen.audio
        self._tick = time_base(chosen.audio)
        self._clock = replace(reading, request=_CLOCK).audio_track(chosen.audio)
        self._recent: deque[tuple[AudioFrame, float, float]] = deque()  # frame, its start, end, s

    def take(self, k: int) -> list[AudioTrack]:
        """The audio of window k, at the request's rate and at each additional one. Windows are taken in order."""
        request, goal = self._windows.of(k), self._windows.goal(k)
        while self._recent and self._recent[0][2] < request.start - _RUN_UP_S:
            self._recent.popleft()
        while self.end <= goal and not self.ended:
            self._step(request.start - _RUN_UP_S)
        self.issues |= self._clock.issues
        return [
            self._track(replace(request, audio_rate=rate)) for rate in (request.audio_rate, *self._windows.audio_rates)
        ]

    def _track(self, request: Request) -> AudioTrack:
        track = replace(self.reading, request=request).audio_track(self._stream)
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
            time = self._clock.place(stamp, frame.sample_rate)
            self._clock.add(frame, stamp)
            self.end = self._clock.last_end
            if time + frame.samples / frame.sample_rate >= since:
                self._recent.append((frame, time, time + frame.samples / frame.sample_rate))
