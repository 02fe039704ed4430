"""read_clip: one span of one file as frames on a time grid and a mono waveform.

Only what the request needs is decoded, by a plan from the packets (planned.py). A file that breaks the rules of a plan
is decoded sequentially from its beginning (sequential.py): the same result, slower, and reported in the issues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits
from mmattn.media.open.source import Source, name_of
from mmattn.media.read.audio.downmix import Downmix
from mmattn.media.read.passes.plan import Unplannable
from mmattn.media.read.passes.planned import read_planned
from mmattn.media.read.passes.reading import PassResult, Reading
from mmattn.media.read.passes.sequential import measured_extent, read_sequential
from mmattn.media.read.request import Request
from mmattn.media.read.video.render import Fit
from mmattn.media.read.video.tone_map import Hdr

if TYPE_CHECKING:
    from mmattn.types import Clip


def read_clip(
    src: Source,
    *,
    times: list[float] | tuple[float, ...] | np.ndarray | None = None,
    fps: float | None = None,
    frames: int | None = None,
    start: float = 0.0,
    end: float | None = None,
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
) -> Clip:
    """Read [start, end) s of `src`; `end` None means to the end of the file.

    Frames: for each time of a grid the frame shown then, RGB, upright, with square pixels, of `size` (height, width) or
    the file's own. The grid is one of `times` (s), `fps` (start + k/fps) or `frames` (the centres of that many equal
    bins of the span); times after the video's end are dropped, so a short video gives fewer frames.
    Audio: mono float32 (`downmix` of more than two channels: "bs775", the ITU's, or "mean") at `audio_rate` Hz (None:
    the file's own), from `start` to min(end, the audio's end), each sample at its time.
    t = 0 is the earlier start of the file's video and audio. A missing modality is None, not an error; what had to be
    fixed is listed in `issues`. `src`: a path, bytes, a seekable binary file or a ByteRange.
    `video_stream`, `audio_stream`: a stream's index, for audio also a language such as "eng"; None = the best.
    `hdr`, `deinterlace`: how HDR and interlaced frames are converted, see Renderer.
    Raises MediaError for the file, ValueError for the arguments.
    """
    given = None if times is None else tuple(float(time) for time in times)
    options = (size, fit, audio_rate, video, audio, video_stream, audio_stream, hdr, deinterlace)
    request = Request(given, fps, frames, start, end, *options, downmix=downmix)
    return read_request(request, src, limits, deadline_s, follow_symlinks)


@dataclass(frozen=True)
class Viewed:
    """The frames of one of the additional views of a window; see Windows."""

    frames: np.ndarray | None  # (T, 3, H, W) uint8
    times: np.ndarray  # (T,) float64


@dataclass(frozen=True)
class DecodedClip:
    """A Clip in numpy arrays: the decoding process does not import torch."""

    frames: np.ndarray | None  # (T, 3, H, W) uint8
    frame_times: np.ndarray  # (T,) float64
    waveform: np.ndarray | None  # (N,) float32
    sample_rate: int
    audio_start: float
    source: str
    span: tuple[float, float]
    duration: float | None
    issues: tuple[str, ...]
    views: tuple[Viewed, ...] = ()
    sounds: tuple[np.ndarray | None, ...] = ()

    def clip(self) -> Clip:
        """The Clip whose tensors share this memory."""
        import torch

        from mmattn.types import Clip, Frames

        return Clip(
            frames=None if self.frames is None else torch.from_numpy(self.frames),
            frame_times=torch.from_numpy(self.frame_times),
            waveform=None if self.waveform is None else torch.from_numpy(self.waveform),
            sample_rate=self.sample_rate,
            audio_start=self.audio_start,
            source=self.source,
            span=self.span,
            duration=self.duration,
            issues=self.issues,
            views=tuple(
                Frames(None if view.frames is None else torch.from_numpy(view.frames), torch.from_numpy(view.times))
                for view in self.views
            ),
            sounds=tuple(None if sound is None else torch.from_numpy(sound) for sound in self.sounds),
        )


def read_request(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Clip:
    """read_clip for a Request."""
    return decode(request, src, limits, deadline_s, follow_symlinks).clip()


def decode(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> DecodedClip:
    """read_clip for a Request, in numpy arrays. Raises MediaError."""
    path = name_of(src)
    reading = Reading(src, path, request, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)
    try:
        try:
            result, grid = read_planned(reading)
        except Unplannable:
            grid = reading.grid(measured_extent(reading))
            result = read_sequential(reading, grid)
            result.issues.add("sequential_fallback")
        return to_clip(reading, result, grid)
    except MemoryError as error:
        raise MediaError(path, "too_large", "out of memory") from error


def to_clip(reading: Reading, result: PassResult, grid: np.ndarray) -> DecodedClip:
    """The clip from the result of a pass at the grid times (T,), s. Raises MediaError if nothing was decoded."""
    request, issues, images = reading.request, set(result.issues), result.images or []
    audio = result.audio
    waveform = None if audio is None else audio.waveform()
    if result.nothing_decoded:
        reason = "unsupported_codec" if "bad_packets" in issues else "truncated"
        raise MediaError(reading.path, reason, "no packet of it could be decoded")
    if result.images is not None and not images:
        issues.add("no_frames")
    if audio is not None:
        issues |= audio.issues | (set() if waveform is not None else {"no_samples"})
    rate = (None if audio is None else audio.rate) or request.audio_rate or 0
    ends = [grid[-1] if len(grid) else request.start]
    if waveform is not None:
        ends.append(request.start + len(waveform) / (rate or 1))
    return DecodedClip(
        frames=stacked(images) if images else None,
        frame_times=grid[: len(images)].copy(),
        waveform=waveform,
        sample_rate=rate,
        audio_start=request.start,
        source=reading.path,
        span=(request.start, float(max(ends)) if request.end is None else request.end),
        duration=result.duration,
        issues=tuple(sorted(issues)),
    )


def viewed(grid: np.ndarray, images: list[np.ndarray]) -> Viewed:
    """The images (H, W, 3), which belong to the first grid times."""
    return Viewed(stacked(images) if images else None, grid[: len(images)].copy())


def stacked(images: list[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) as (T, 3, H, W), copied once: a fourth of the time of stacking and then transposing."""
    height, width, _ = images[0].shape
    frames = np.empty((len(images), 3, height, width), np.uint8)
    for frame, image in zip(frames, images, strict=True):
        frame[:] = image.transpose(2, 0, 1)
    return frames
