"""The packets of a file's streams, and their times in seconds. Every pass over a file reads them here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import av
from av.container.input import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from mmattn.media.open.adts import NAME as ADTS
from mmattn.media.open.adts import AdtsClock
from mmattn.media.open.clock_jumps import clocked, continuous_clock, may_jump
from mmattn.media.open.container import Deadline
from mmattn.media.open.streams import AnyStream, Chosen, start_of, time_base

_HEADED = frozenset(  # durations are not guesses
    ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "wav", "aiff", "au", "flac", "tta", "wv")
)
_UNFILLED = 1 << 30  # frames that FFmpeg declares in AVI until it knows how many there are


@dataclass(frozen=True)
class StreamClock:
    """Stamps of one stream, in ticks of `tick` s, as seconds after the clip's t = 0.

    `origin`: t = 0 on the container's clock, s. `nominal`: the usual length of a video frame, 0 for audio, s.
    """

    tick: float
    origin: float
    nominal: float = 0.0

    @classmethod
    def of(cls, stream: AnyStream, origin: float) -> StreamClock:
        """The clock of `stream`."""
        return cls(time_base(stream), origin, frame_seconds(stream) if isinstance(stream, VideoStream) else 0.0)

    def time(self, stamp: int) -> float:
        """When `stamp` is presented, s."""
        return stamp * self.tick - self.origin

    def length(self, duration: int | None) -> float:
        """A packet's or frame's `duration` in s; the usual length where the file gives none."""
        return (duration or 0) * self.tick or self.nominal


def frame_seconds(stream: VideoStream) -> float:
    """The length of one frame at the stream's nominal rate, s; 1/25 where the file gives no rate."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 0.04


def demux(
    container: InputContainer, *streams: Stream, deadline: Deadline | None = None, issues: set[str] | None = None
) -> Iterator[Packet]:
    """Yield the packets of `streams` (none given: of all), then an empty one for each, on a clock without jumps.

    Where the container cannot be read further, the packets end and `issues` gets "read_error"; where a jump of its
    clock was removed, "clock_jump". Raises FFmpegError if nothing at all can be read, and MediaError when `deadline`
    has passed.
    """
    issues = set() if issues is None else issues
    clock, demuxed = AdtsClock() if container.format.name == ADTS else None, streams
    if may_jump(container):  # then the other streams are needed too, to find where a part begins
        clock, beside = continuous_clock(container), clocked(container)
        demuxed = (*streams, *(s for s in beside if s.index not in {stream.index for stream in streams}))
        demuxed = demuxed if streams else ()
    wanted, count = {stream.index for stream in streams or container.streams}, 0
    # PyAV's own generator keeps about 150 bytes for good where it is dropped before its end (18.1), so it is closed.
    with closing(container.demux(*demuxed)) as packets:  # type: ignore[type-var]
        try:
            for packet in packets:
                count += bool(packet.size)
                if clock is not None and packet.size and clock.place(packet):
                    issues.add("clock_jump")
                if packet.stream.index in wanted:  # stream_index is wrong on the packets that end a stream
                    if deadline is not None:
                        deadline.check()
                    yield packet
            return
        except MemoryError:
            raise
        except FFmpegError:
            if not count:
                raise
            issues.add("read_error")
    for stream in streams or container.streams:  # flushes what the decoders hold back
        flush = Packet()
        flush.stream = stream
        yield flush


def is_encrypted(packet: Packet) -> bool:
    """Whether the packet is encrypted. It would decode to noise without any error, so this is the only sign."""
    return packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info")


def declared_end(stream: AnyStream, origin: float) -> float | None:
    """Where the stream ends by the header, s after the origin; None where the header does not say."""
    start = start_of(stream)
    if not stream.duration or start is None:
        return None
    return start + stream.duration * time_base(stream) - origin


def cut_off(container: InputContainer, chosen: Chosen, reached: dict[int, float]) -> bool:
    """Whether the packets ended well before the declared end. `reached`: stream index -> end of its last packet, s."""
    if container.format.name not in _HEADED or any(stream.frames >= _UNFILLED for stream in container.streams):
        return False
    if container.format.name == "wav" and _guessed_by_size(container):
        return False
    offset = max(chosen.origin, 0.0)  # some headers count the duration from 0, not from the first stamp
    streams = chosen.streams
    checks = []
    if all(stream.index in reached for stream in streams):
        checks = [(max(reached.values(), default=0.0), (container.duration or 0) / av.time_base)]
    for stream in streams:
        declared = declared_end(stream, chosen.origin)
        if declared is not None and stream.index in reached:
            checks += [(reached[stream.index], declared)]
    return any(end + offset < declared - max(0.5, 0.05 * declared) for end, declared in checks)


def _guessed_by_size(container: InputContainer) -> bool:
    """Whether the duration is only the file's size by its bit rate: a piped WAV declares no length.

    The bit rate of compressed samples may be wrong. For one that was cut off, the declared length exceeds its size.
    """
    rate = next((stream.codec_context.bit_rate for stream in container.streams.audio if stream.codec_context), None)
    guess = 8 * container.size / rate if rate else 0.0
    return abs(guess - (container.duration or 0) / av.time_base) <= 0.01 * guess
