"""A file as a row of windows, decoded once from beginning to end with memory for little more than one window.

Picture and sound are read side by side, each from an opening of its own: however the file mixes them, neither has to
wait in memory for the other. What window k holds is what read_clip gives for its span.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.source import Source, name_of
from mmattn.media.open.streams import cut_off
from mmattn.media.read.audio.downmix import Downmix
from mmattn.media.read.decode import DecodedClip, decoded, viewed
from mmattn.media.read.passes.reading import Reading, Taken
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
                pictures = VideoWindows(whole, windows, container, chosen)
            if asked.audio and chosen.audio is not None:
                beside = container if pictures is None else opened.enter_context(whole.open())
                sounds = AudioWindows(whole, windows, beside, whole.choose(beside))
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


def _ends(tracks: list) -> dict[int, float]:
    return {index: end for track in tracks for index, end in track.reached.ends.items()}
