"""read_clip: one span of one file as frames on a time grid and a mono waveform.

What the question needs is planned from the packets and decoded alone (planned.py). A file that does not keep the rules
of a plan is decoded in turn from its beginning (sequential.py): the same answer, slower, and said in the issues.
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
from mmattn.media.read.passes.planned import take_planned
from mmattn.media.read.passes.reading import Reading, Taken
from mmattn.media.read.passes.sequential import measured_extent, take_in_turn
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

    Frames: for each time of one grid the frame shown then, RGB, upright, `size` (height, width) or the file's own, its
    pixels made square.
    The grid is one of `times` (s), `fps` (start + k/fps) or `frames` (that many centres of equal bins of the span);
    times from the picture's end on are dropped, so a short video gives fewer frames. Sound: mono (`downmix` of
    more than two channels: "bs775", the ITU's, or "mean"), float32, `audio_rate` Hz (None: the file's own), from
    `start` to min(end, the sound's end), each sample at its time.
    t = 0 is the earlier start of the file's picture and sound. A missing modality is None, not an error; what was
    put right on the way is named in `issues`. `src`: a path, bytes, a seekable binary file or a ByteRange.
    `video_stream`, `audio_stream`: a stream's index, for sound also a language such as "eng"; None = the best.
    `hdr`, `deinterlace`: what becomes of HDR and of interlaced frames, see Renderer.
    Raises MediaError for the file, ValueError for the arguments.
    """
    given = None if times is None else tuple(float(time) for time in times)
    asked = (size, fit, audio_rate, video, audio, video_stream, audio_stream, hdr, deinterlace)
    request = Request(given, fps, frames, start, end, *asked, downmix=downmix)
    return answer(request, src, limits, deadline_s, follow_symlinks)


@dataclass(frozen=True)
class Viewed:
    """The frames of another view of a window; see Windows."""

    frames: np.ndarray | None  # (T, 3, H, W) uint8
    times: np.ndarray  # (T,) float64


@dataclass(frozen=True)
class DecodedClip:
    """A Clip in numpy's arrays. The process that only decodes does without torch."""

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
        """The same memory as tensors."""
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


def answer(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Clip:
    """read_clip for a question that is already checked."""
    return decode(request, src, limits, deadline_s, follow_symlinks).clip()


def decode(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> DecodedClip:
    """The same in numpy's arrays."""
    path = name_of(src)
    reading = Reading(src, path, request, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)
    try:
        try:
            taken, grid = take_planned(reading)
        except Unplannable:
            grid = reading.grid(measured_extent(reading))
            taken = take_in_turn(reading, grid)
            taken.issues.add("sequential_fallback")
        return decoded(reading, taken, grid)
    except MemoryError as error:
        raise MediaError(path, "too_large", "out of memory") from error


def decoded(reading: Reading, taken: Taken, grid: np.ndarray) -> DecodedClip:
    """The answer from what a pass brought."""
    asked, issues, images = reading.request, set(taken.issues), taken.images or []
    waveform = taken.sound.waveform() if taken.sound is not None else None
    if taken.fruitless:
        reason = "unsupported_codec" if "bad_packets" in issues else "truncated"
        raise MediaError(reading.path, reason, "no packet of it could be decoded")
    if taken.images is not None and not images:
        issues.add("no_frames")
    if taken.sound is not None:
        issues |= taken.sound.issues | (set() if waveform is not None else {"no_samples"})
    ends = [grid[-1] if len(grid) else asked.start]
    if taken.sound is not None and waveform is not None:
        ends.append(asked.start + len(waveform) / (taken.sound.rate or 1))
    return DecodedClip(
        frames=_stacked(images) if images else None,
        frame_times=grid[: len(images)].copy(),
        waveform=waveform,
        sample_rate=(taken.sound.rate if taken.sound is not None else None) or asked.audio_rate or 0,
        audio_start=asked.start,
        source=reading.path,
        span=(asked.start, float(max(ends)) if asked.end is None else asked.end),
        duration=taken.duration,
        issues=tuple(sorted(issues)),
    )


def viewed(grid: np.ndarray, images: list[np.ndarray]) -> Viewed:
    """The images (H, W, 3) that are there, at the first times of the grid."""
    return Viewed(_stacked(images) if images else None, grid[: len(images)].copy())


def _stacked(images: list[np.ndarray]) -> np.ndarray:
    """(T, 3, H, W) of images (H, W, 3), in one go: a fourth of the time of stacking, then turning the axes."""
    height, width, _ = images[0].shape
    frames = np.empty((len(images), 3, height, width), np.uint8)
    for frame, image in zip(frames, images, strict=True):
        frame[:] = image.transpose(2, 0, 1)
    return frames
