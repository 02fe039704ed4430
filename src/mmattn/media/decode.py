"""read_clip: one span of one file as frames on a time grid and a mono waveform.

One pass over the packets decodes picture and sound side by side and stops after the last thing asked for. When the
grid depends on the picture's length, a pass without decoding measures it first: headers are wrong too often. Far
starts are sought in containers whose timestamps survive it; if that lands too late, the pass begins at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from mmattn.errors import MediaError
from mmattn.media.audio import SoundTrack
from mmattn.media.open import Deadline, Limits, declared_duration, open_container
from mmattn.media.picture import Fit, Renderer
from mmattn.media.request import Request
from mmattn.media.source import Source, name_of
from mmattn.media.streams import Chosen, choose, cut_off, frame_seconds, is_encrypted, time_base
from mmattn.media.video import PictureTrack, picture_extent
from mmattn.types import Clip

_SOUGHT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "avi", "wav")  # stamps after a seek are exact
_FAR_S = 10.0  # nearer starts are read from the beginning
_PREROLL_S = 1.0  # sound decoders need a little past; interleaving may put it before the picture
_INTERLEAVE_S = 10.0  # a stream this far past the end will not be overtaken by the other


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
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Clip:
    """Read [start, end) s of `src`; `end` None means to the end of the file.

    Frames: for each time of one grid the frame shown then, RGB, upright, `size` (height, width) or the file's own.
    The grid is one of `times` (s), `fps` (start + k/fps) or `frames` (that many centres of equal bins of the span);
    times from the picture's end on are dropped, so a short video gives fewer frames. Sound: mono (plain mean of the
    channels), float32, `audio_rate` Hz (None: the file's own), from `start` to min(end, the sound's end).
    t = 0 is the earlier start of the file's picture and sound. A missing modality is None, not an error; what was
    put right on the way is named in `issues`. `src`: a path, bytes, a seekable binary file or a ByteRange.
    `video_stream`, `audio_stream`: a stream's index, for sound also a language such as "eng"; None = the best.
    Raises MediaError for the file, ValueError for the arguments.
    """
    given = None if times is None else tuple(float(time) for time in times)
    request = Request(given, fps, frames, start, end, size, fit, audio_rate, video, audio, video_stream, audio_stream)
    return answer(request, src, limits, deadline_s, follow_symlinks)


def answer(
    request: Request,
    src: Source,
    limits: Limits | None = None,
    deadline_s: float | None = None,
    follow_symlinks: bool = False,
) -> Clip:
    """read_clip for a question that is already checked."""
    path = name_of(src)
    reading = _Reading(src, path, request, limits or Limits(), Deadline(path, deadline_s), follow_symlinks)
    try:
        grid = reading.grid() if request.video else np.zeros(0)
        taken = reading.take(grid, seek=request.start > _FAR_S)
        if taken.landed_late:
            taken = reading.take(grid, seek=False)
            taken.issues.add("sequential_fallback")
        return _clip(reading, taken, grid)
    except MemoryError as error:
        raise MediaError(path, "too_large", "out of memory") from error


@dataclass
class _Taken:
    """What one pass brought."""

    pictures: PictureTrack | None = None
    sound: SoundTrack | None = None
    issues: set[str] = field(default_factory=set)
    decoded: int = 0  # frames of both kinds
    reached: dict[int, float] = field(default_factory=dict)  # stream index -> end of its last packet, s
    duration: float | None = None  # of the file, as its header tells, s
    landed_late: bool = False
    at_end: bool = False

    def wants(self, packet: Packet) -> bool:
        return self.pictures is not None and not self.pictures.done if packet.stream.type == "video" else True


@dataclass(frozen=True)
class _Reading:
    """One question to one file."""

    src: Source
    path: str
    request: Request
    limits: Limits
    deadline: Deadline
    follow_symlinks: bool

    def open(self):
        return open_container(
            self.src, limits=self.limits, deadline=self.deadline, follow_symlinks=self.follow_symlinks
        )

    def grid(self) -> np.ndarray:
        """The times (T,) s to look at."""
        extent = self.extent()
        if (count := self.request.count(extent)) > self.limits.frames:
            raise MediaError(self.path, "too_large", f"{count:.0f} frames asked for, at most {self.limits.frames}")
        return self.request.grid(extent)

    def extent(self) -> float:
        """Where the picture ends, s; only measured if the grid depends on it."""
        if not self.request.needs_extent:
            return 0.0
        with self.open() as container:
            chosen = choose(container, self.path, self.request.video_stream, self.request.audio_stream)
            if chosen.video is None:
                return 0.0
            extent = picture_extent(container, chosen.video, chosen.origin, self.deadline)
        if extent > self.limits.duration_s:
            raise MediaError(self.path, "too_long", f"{extent:.0f} s, at most {self.limits.duration_s:.0f}")
        return extent

    def take(self, grid: np.ndarray, seek: bool) -> _Taken:
        """One decoding pass over the span."""
        asked, taken = self.request, _Taken()
        with self.open() as container:
            chosen = choose(container, self.path, self.request.video_stream, self.request.audio_stream)
            taken.issues |= set(chosen.issues)
            taken.duration = declared_duration(container)
            if asked.video and chosen.video is not None:
                render = Renderer(asked.size, asked.fit)
                taken.pictures = PictureTrack(self.path, chosen.video, chosen.origin, grid, render, self.limits)
            if asked.audio and chosen.audio is not None:
                taken.sound = SoundTrack(self.path, asked.start, asked.end, asked.audio_rate, self.limits)
            sought = seek and _seek(container, chosen, asked.start)
            self._decode(container, chosen, taken)
            taken.landed_late = sought and _landed_late(taken, grid, asked.start)
            if taken.at_end and cut_off(container, chosen, taken.reached):
                taken.issues.add("truncated")
        return taken

    def _decode(self, container: InputContainer, chosen: Chosen, taken: _Taken) -> None:
        streams = [s for s in (taken.pictures and chosen.video, taken.sound and chosen.audio) if s is not None]
        for packet in container.demux(streams) if streams else ():
            self.deadline.check()
            if is_encrypted(packet):
                raise MediaError(self.path, "unsupported_codec", f"the {packet.stream.type} stream is encrypted")
            if self._past(packet, chosen.origin, taken):
                break
            if taken.wants(packet):
                for frame in _frames(packet, taken.issues):
                    taken.decoded += 1
                    _hand_over(frame, packet, chosen.origin, taken)
        else:
            taken.at_end = True
        if taken.pictures is not None:
            taken.pictures.finish()

    def _past(self, packet: Packet, origin: float, taken: _Taken) -> bool:
        """Whether nothing that is still wanted can follow `packet`."""
        if packet.dts is None or packet.pts is None:
            return False
        tick = time_base(packet.stream)
        length = (packet.duration or 0) * tick
        if not length and packet.stream.type == "video":
            length = frame_seconds(packet.stream)
        index = packet.stream.index
        taken.reached[index] = max(taken.reached.get(index, 0.0), packet.pts * tick - origin + length)
        if self.request.end is None:
            return taken.sound is None and taken.pictures is not None and taken.pictures.done
        ready = (taken.pictures is None or taken.pictures.done) and (taken.sound is None or taken.sound.done)
        return ready or packet.dts * tick - origin > self.request.end + _INTERLEAVE_S


def _frames(packet: Packet, issues: set[str]) -> Iterator[VideoFrame | AudioFrame]:
    """The packet's frames; a packet that fails must not cost the rest."""
    if packet.size == 0 and packet.dts is not None:
        return  # an empty sample; only the flush packet may be empty
    try:
        yield from packet.decode()  # type: ignore[misc]
    except MemoryError:
        raise
    except (FFmpegError, ValueError):
        issues.add("bad_packets")


def _hand_over(frame: VideoFrame | AudioFrame, packet: Packet, origin: float, taken: _Taken) -> None:
    if isinstance(frame, VideoFrame) and taken.pictures is not None:
        taken.pictures.add(frame)
    elif isinstance(frame, AudioFrame) and taken.sound is not None:
        tick = float(frame.time_base) if frame.time_base else time_base(packet.stream)
        taken.sound.add(frame, None if frame.pts is None else frame.pts * tick - origin)


def _seek(container: InputContainer, chosen: Chosen, start: float) -> bool:
    """Stand on a key frame a little before `start`; False if it has to be the beginning."""
    stream = chosen.video or chosen.audio
    if container.format.name not in _SOUGHT or stream is None:
        return False
    try:
        container.seek(int((start - _PREROLL_S + chosen.origin) / time_base(stream)), stream=stream)
    except FFmpegError:
        container.seek(0)
        return False
    return True


def _landed_late(taken: _Taken, grid: np.ndarray, start: float) -> bool:
    pictures, sound = taken.pictures, taken.sound
    late = pictures is not None and len(grid) > 0 and (pictures.first_time is None or pictures.first_time > grid[0])
    return late or (sound is not None and (sound.first_time is None or sound.first_time > start))


def _clip(reading: _Reading, taken: _Taken, grid: np.ndarray) -> Clip:
    asked, issues = reading.request, set(taken.issues)
    waveform = taken.sound.waveform() if taken.sound is not None else None
    images = taken.pictures.images if taken.pictures is not None else []
    if taken.decoded == 0 and (taken.pictures is not None or taken.sound is not None):
        reason = "unsupported_codec" if "bad_packets" in issues else "truncated"
        raise MediaError(reading.path, reason, "no packet of it could be decoded")
    if taken.pictures is not None:
        issues |= taken.pictures.issues | (set() if images else {"no_frames"})
    if taken.sound is not None:
        issues |= taken.sound.issues | (set() if waveform is not None else {"no_samples"})
    frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() if images else None
    ends = [grid[-1] if len(grid) else asked.start]
    if taken.sound is not None and waveform is not None:
        ends.append(asked.start + len(waveform) / (taken.sound.rate or 1))
    return Clip(
        frames=frames,
        frame_times=torch.from_numpy(grid[: len(images)].copy()),
        waveform=None if waveform is None else torch.from_numpy(waveform),
        sample_rate=(taken.sound.rate if taken.sound is not None else None) or asked.audio_rate or 0,
        audio_start=asked.start,
        source=reading.path,
        span=(asked.start, float(max(ends)) if asked.end is None else asked.end),
        duration=taken.duration,
        issues=tuple(sorted(issues)),
    )
