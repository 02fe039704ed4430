"""One question to one file, and what a pass over the file brought."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.extent import Extent, extent
from mmattn.media.open.source import Source
from mmattn.media.open.streams import Chosen, choose, codec_name, frame_seconds, is_encrypted, time_base
from mmattn.media.open.trust import trusted_duration
from mmattn.media.read.audio.stamps import SampleClock
from mmattn.media.read.audio.track import SoundTrack
from mmattn.media.read.request import Request

_INTERLEAVE_S = 10.0  # a stream this far past the end will not be overtaken by the other

_UNSTEADY = ("vorbis",)  # codecs whose frames have one length here, another there
_COUNTED = ("ac3", "eac3", "dts", "truehd")  # no stamps in the file: FFmpeg adds up lengths that it rounds down


@dataclass(frozen=True)
class Reading:
    """One question to one file."""

    src: Source
    path: str  # as messages name it
    request: Request
    limits: Limits
    deadline: Deadline
    follow_symlinks: bool

    def open(self):
        return open_container(
            self.src, limits=self.limits, deadline=self.deadline, follow_symlinks=self.follow_symlinks
        )

    def choose(self, container: InputContainer) -> Chosen:
        return choose(container, self.path, self.request.video_stream, self.request.audio_stream)

    def grid(self, extent: float) -> np.ndarray:
        """The times (T,) s to look at in a picture that ends at `extent` s (0 where that does not matter)."""
        if not self.request.video:
            return np.zeros(0)
        if extent > self.limits.duration_s:
            raise MediaError(self.path, "too_long", f"{extent:.0f} s, at most {self.limits.duration_s:.0f}")
        if (count := self.request.count(extent)) > self.limits.frames:
            raise MediaError(self.path, "too_large", f"{count:.0f} frames asked for, at most {self.limits.frames}")
        return self.request.grid(extent)

    def extent(self) -> Extent:
        """Where the file ends, by a pass over its packets."""
        streams = self.request.video_stream, self.request.audio_stream
        return extent(self.src, self.limits, self.deadline, self.follow_symlinks, streams)

    def duration(self, container: InputContainer) -> float | None:
        """Of the file, s; None where its header cannot be trusted and the question does not need it."""
        told = trusted_duration(container)
        return self.extent().end if told is None and self.request.measure_end else told

    def sound(self, stream: AudioStream) -> SoundTrack:
        asked = self.request
        span = (asked.start, asked.end, asked.audio_rate)
        clock = SampleClock(
            tick=time_base(stream),
            steady=codec_name(stream) not in _UNSTEADY,
            counted=stream.container.format.name in _COUNTED,
        )
        return SoundTrack(self.path, *span, self.limits, clock, asked.downmix)

    def check(self, packet: Packet) -> None:
        """Raise MediaError for a packet that cannot be decoded, or if the time is up."""
        self.deadline.check()
        if is_encrypted(packet):
            raise MediaError(self.path, "unsupported_codec", f"the {packet.stream.type} stream is encrypted")


@dataclass
class Taken:
    """What a pass brought: an image (H, W, 3) for each of the first grid times, and the sound."""

    images: list[np.ndarray] | None = None  # None: no picture in the file, or not asked for
    sound: SoundTrack | None = None
    issues: set[str] = field(default_factory=set)
    duration: float | None = None  # of the file, s, where it is known
    fruitless: bool = False  # there were packets, and none of them could be decoded


class Reached:
    """How far the packets of a pass over several streams have come. Times in s, `end` that of the span or None."""

    def __init__(self, origin: float, end: float | None) -> None:
        self._origin = origin
        self._last = float("inf") if end is None else end + _INTERLEAVE_S
        self._ticks: dict[int, tuple[float, float]] = {}  # stream index -> seconds a tick, usual length of a packet
        self.ends: dict[int, float] = {}  # stream index -> end of its last packet

    def past(self, packet: Packet) -> bool:
        """Note the packet; whether nothing of the span can follow it."""
        if packet.pts is None:
            return False
        index = packet.stream_index
        if index not in self._ticks:
            usual = frame_seconds(packet.stream) if isinstance(packet.stream, VideoStream) else 0.0
            self._ticks[index] = time_base(packet.stream), usual
        tick, usual = self._ticks[index]
        end = packet.pts * tick - self._origin + ((packet.duration or 0) * tick or usual)
        self.ends[index] = max(self.ends.get(index, 0.0), end)
        return packet.dts is not None and packet.dts * tick - self._origin > self._last
