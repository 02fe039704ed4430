"""A file as a series of windows, decoded once from beginning to end in memory for little more than one window.

Video and audio are read in parallel, each from its own opening of the file: however the file interleaves them, neither
waits in memory for the other. Window k is what read_clip returns for its span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.packets import cut_off
from mmattn.media.open.source import Source, name_of
from mmattn.media.read.audio.downmix import Downmix
from mmattn.media.read.decode import DecodedClip, to_clip, viewed
from mmattn.media.read.passes.reading import PassResult, Reading
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Fit
from mmattn.media.read.video.tone_map import Hdr
from mmattn.media.read.windows.layout import Windows
from mmattn.media.read.windows.tracks import AudioWindows, VideoWindows

if TYPE_CHECKING:
    from mmattn.types import Clip


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
    """Yield all of `src` as windows of `window_s` s every `hop_s` s (None: window_s), in one pass, in bounded memory.

    Window k is what read_clip(start=k * hop_s, end=k * hop_s + window_s) with the same arguments returns, frame for
    frame and sample for sample. The last window is the first that reaches the file's end: its span is whole, its frames
    and samples end with the file. A remainder below 0.1 s gets no window of its own. There is always a first window.
    `deadline_s` is the time for one window, without the caller's time between two; `limits` apply to each window.
    `issues` are those since the window before, and those of the whole file.
    Raises ValueError at once for wrong arguments, MediaError during iteration for the file.
    """
    options = (size, fit, audio_rate, video, audio, video_stream, audio_stream, hdr, deinterlace)
    request = Request(None, fps, frames, 0.0, window_s, *options, downmix=downmix)
    windows = Windows(window_s, window_s if hop_s is None else hop_s, request)
    return (part.clip() for part in decode_windows(windows, src, limits, deadline_s, follow_symlinks))


def decode_windows(
    windows: Windows,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Iterator[DecodedClip]:
    """iter_windows for checked Windows, in numpy arrays."""
    path = name_of(src)
    reading = Reading(src, path, windows.request, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)
    try:
        with ExitStack() as opened:
            pass_over = _Pass(windows, reading, opened)
            k, goes_on = 0, True
            while goes_on:
                reading.deadline.restart()
                clip, goes_on = pass_over.window(k)
                yield clip
                k += 1
    except MemoryError as error:
        raise MediaError(path, "too_large", "out of memory") from error


class _Pass:
    """One pass over a file, which is opened once for the video and once for the audio."""

    def __init__(self, windows: Windows, reading: Reading, opened: ExitStack) -> None:
        self.windows, self.reading = windows, reading
        self.container = container = opened.enter_context(reading.open())
        self.chosen = chosen = reading.choose(container)
        self.video: VideoWindows | None = None
        self.audio: AudioWindows | None = None
        if windows.request.video and chosen.video is not None:
            self.video = VideoWindows(reading, windows, container, chosen)
        if windows.request.audio and chosen.audio is not None:
            beside = container if self.video is None else opened.enter_context(reading.open())
            self.audio = AudioWindows(reading, windows, beside, reading.choose(beside))
        self.tracks = [track for track in (self.video, self.audio) if track is not None]
        self.duration = reading.duration(container)

    def window(self, k: int) -> tuple[DecodedClip, bool]:
        """Window k, in order, and whether another follows. Raises MediaError."""
        reading = replace(self.reading, request=self.windows.of(k))
        grid = reading.grid(0.0)
        shown = None if self.video is None else self.video.take(k)
        rates = 1 + len(self.windows.audio_rates)
        audio, *resampled = [None] * rates if self.audio is None else self.audio.take(k)
        reading.deadline.check()  # after it, the file seems to end
        reached = max((track.end for track in self.tracks), default=0.0)
        if reached > reading.limits.duration_s:
            raise MediaError(reading.path, "too_long", f"{reached:.0f} s, at most {reading.limits.duration_s:.0f}")
        nothing_decoded = bool(self.tracks) and not any(track.decoded for track in self.tracks)
        images = None if shown is None else shown[0][1]
        result = PassResult(images, audio, self._issues(), self.duration, nothing_decoded)
        others = [(grid, [])] * len(self.windows.views) if shown is None else shown[1:]
        clip = replace(
            to_clip(reading, result, grid),
            views=tuple(viewed(*other) for other in others),
            sounds=tuple(None if track is None else track.waveform() for track in resampled),
        )
        return clip, reached > self.windows.goal(k)

    def _issues(self) -> set[str]:
        """The issues since the window before, and those of the whole file."""
        issues = set(self.chosen.issues).union(*(track.issues for track in self.tracks))
        ends = {index: end for track in self.tracks for index, end in track.reached.ends.items()}
        if all(track.ended for track in self.tracks) and cut_off(self.container, self.chosen, ends):
            issues.add("truncated")
        for track in self.tracks:
            track.issues.clear()
        return issues
