"""One request to one file, and the result of a pass over the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
from av.audio.stream import AudioStream
from av.container.input import InputContainer
from av.packet import Packet

from mmattn.errors import MediaError
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.extent import Extent, extent
from mmattn.media.open.packets import StreamClock, demux, is_encrypted
from mmattn.media.open.source import Source
from mmattn.media.open.streams import AnyStream, Chosen, choose, codec_name, time_base
from mmattn.media.open.trust import trusted_duration
from mmattn.media.read.audio.stamps import SampleClock
from mmattn.media.read.audio.track import AudioTrack
from mmattn.media.read.request import Request

_INTERLEAVE_S = 10.0  # once one stream is this far past the end, no packet of the span follows in another

_UNSTEADY = ("vorbis",)  # codecs whose frames differ in length
_COUNTED = ("ac3", "eac3", "dts", "truehd")  # no stamps in the file: FFmpeg sums lengths that it rounds down


@dataclass(frozen=True)
class Reading:
    """One request to one file."""

    src: Source
    path: str  # for messages
    request: Request
    limits: Limits
    deadline: Deadline
    follow_symlinks: bool

    def open(self) -> AbstractContextManager[InputContainer]:
        """The opened container; see open_container."""
        return open_container(
            self.src, limits=self.limits, deadline=self.deadline, follow_symlinks=self.follow_symlinks
        )

    def choose(self, container: InputContainer) -> Chosen:
        """The streams that are read; see streams.choose."""
        return choose(container, self.path, self.request.video_stream, self.request.audio_stream)

    def grid(self, extent: float) -> np.ndarray:
        """The grid times (T,), s, in a video that ends at `extent` s (0 where that does not matter)."""
        if not self.request.video:
            return np.zeros(0)
        if extent > self.limits.duration_s:
            raise MediaError(self.path, "too_long", f"{extent:.0f} s, at most {self.limits.duration_s:.0f}")
        if (count := self.request.count(extent)) > self.limits.frames:
            raise MediaError(self.path, "too_large", f"{count:.0f} frames requested, at most {self.limits.frames}")
        return self.request.grid(extent)

    def extent(self) -> Extent:
        """Where the file ends, measured by a pass over its packets."""
        streams = self.request.video_stream, self.request.audio_stream
        return extent(self.src, self.limits, self.deadline, self.follow_symlinks, streams)

    def duration(self, container: InputContainer) -> float | None:
        """The file's duration, s; None where its header cannot be trusted and the request does not need it."""
        declared = trusted_duration(container)
        return self.extent().end if declared is None and self.request.measure_end else declared

    def audio_track(self, stream: AudioStream) -> AudioTrack:
        """An empty track for the audio of the request's span."""
        request = self.request
        span = (request.start, request.end, request.audio_rate)
        clock = SampleClock(
            tick=time_base(stream),
            steady=codec_name(stream) not in _UNSTEADY,
            counted=stream.container.format.name in _COUNTED,
        )
        return AudioTrack(self.path, *span, self.limits, clock, request.downmix)

    def packets(self, container: InputContainer, *streams: AnyStream, issues: set[str]) -> Iterator[Packet]:
        """The packets of `streams`; see demux. Raises MediaError for an encrypted one and after the deadline."""
        for packet in demux(container, *streams, deadline=self.deadline, issues=issues):
            self.check(packet)
            yield packet

    def check(self, packet: Packet) -> None:
        """Raise MediaError for an encrypted packet."""
        if is_encrypted(packet):
            raise MediaError(self.path, "unsupported_codec", f"the {packet.stream.type} stream is encrypted")


@dataclass
class PassResult:
    """The result of a pass: an image (H, W, 3) for each of the first grid times, and the audio."""

    images: list[np.ndarray] | None = None  # None: no video in the file, or not requested
    audio: AudioTrack | None = None
    issues: set[str] = field(default_factory=set)
    duration: float | None = None  # of the file, s, where it is known
    nothing_decoded: bool = False  # there were packets, and none of them could be decoded


class Reached:
    """How far the packets of a pass over several streams have come. Times in s; `end`: of the span, or None."""

    def __init__(self, origin: float, end: float | None) -> None:
        self._origin = origin
        self._last = float("inf") if end is None else end + _INTERLEAVE_S
        self._clocks: dict[int, StreamClock] = {}  # by stream index
        self.ends: dict[int, float] = {}  # stream index -> end of its last packet

    def past(self, packet: Packet) -> bool:
        """Take the next packet; returns whether no packet of the span can follow it."""
        if packet.pts is None:
            return False
        index = packet.stream_index
        clock = self._clocks.get(index)
        if clock is None:
            clock = self._clocks[index] = StreamClock.of(packet.stream, self._origin)
        end = clock.time(packet.pts) + clock.length(packet.duration)
        self.ends[index] = max(self.ends.get(index, 0.0), end)
        return packet.dts is not None and clock.time(packet.dts) > self._last
