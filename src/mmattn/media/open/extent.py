"""Where a file ends: as its header says where that can be trusted, else as its packets say.

Most headers are written before the end is known, and where FFmpeg finds no duration it guesses one from the bit rate,
without saying so. Trusted is what cannot be such a guess:

- MP4, MOV and AVI where the index of packets reaches the declared end;
- Matroska and WebM with the segment's Duration (a guess would be the streams' duration too);
- PCM in WAV, W64, AIFF, AU and CAF where the declared samples fill the file;
- FLAC that declares its number of samples.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from av.container.input import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.source import Source
from mmattn.media.open.streams import AnyStream, Chosen, choose, demux, frame_seconds, time_base

_REMEMBERED = 64  # files whose packets were counted, so that spans of one file count them once


@dataclass(frozen=True)
class Extent:
    """`end` s from the clip's t = 0. `steady`: the file's own clock never jumps, so that one may seek by it."""

    end: float
    steady: bool


class StreamEnd:
    """Where one stream ends, from all its packets in turn."""

    def __init__(self, stream: AnyStream, origin: float) -> None:
        self._tick, self._origin = time_base(stream), origin
        self._nominal = frame_seconds(stream) if isinstance(stream, VideoStream) else 0.0
        self._end, self._length = 0.0, 0.0
        self.count = 0  # packets
        self._broken, self._last = False, None

    def add(self, packet: Packet) -> None:
        if not packet.size or packet.is_discard:
            return
        length = (packet.duration or 0) * self._tick or self._nominal
        self.count, self._length = self.count + 1, self._length + length
        backwards = self._last is not None and packet.dts is not None and packet.dts < self._last
        self._broken = self._broken or packet.pts is None or backwards
        self._last = packet.dts
        if packet.pts is not None:
            self._end = max(self._end, packet.pts * self._tick - self._origin + length)

    @property
    def end(self) -> float:
        """Where the last packet ends, s; where stamps are missing or fall, the sum of the lengths."""
        return self._length if self._broken else self._end


def extent(
    src: Source,
    limits: Limits,
    deadline: Deadline,
    follow_symlinks: bool,
    streams: tuple[int | None, int | str | None] = (None, None),
) -> Extent:
    """By a pass over the packets of the streams asked for, video and audio (None: the best); nothing is decoded.

    Raises MediaError: too_long where the packets go on beyond the limit, and as read_clip does.
    """
    with open_container(src, limits=limits, deadline=deadline, follow_symlinks=follow_symlinks) as container:
        return _measured(src, container, choose(container, deadline.path, *streams), limits, deadline)


_found: OrderedDict[object, Extent] = OrderedDict()


def _measured(src: Source, container: InputContainer, chosen: Chosen, limits: Limits, deadline: Deadline) -> Extent:
    streams = [stream for stream in (chosen.video, chosen.audio) if stream is not None]
    key = _key(src, [stream.index for stream in streams])
    if key is not None and key in _found:
        return _found[key]
    ends = {stream.index: StreamEnd(stream, chosen.origin) for stream in streams}
    issues: set[str] = set()
    for packet in demux(container, *streams, issues=issues):
        deadline.check()
        ends[packet.stream.index].add(packet)
        if packet.stream is chosen.video and ends[packet.stream.index].count > limits.frames:
            raise MediaError(deadline.path, "too_large", f"more than {limits.frames} frames")
    end = max(each.end for each in ends.values())
    if end > limits.duration_s:
        raise MediaError(deadline.path, "too_long", f"{end:.0f} s, at most {limits.duration_s:.0f}")
    deadline.check()  # when it passes, the file seems to end
    found = Extent(end, "clock_jump" not in issues)
    if key is not None:
        _found[key] = found
        while len(_found) > _REMEMBERED:
            _found.popitem(last=False)
    return found


def _key(src: Source, streams: list[int]) -> object:
    """The file as it now is; None where that is not known."""
    if isinstance(src, (bytes, bytearray, memoryview)) or not isinstance(src, str | Path | ByteRange):
        return None
    path = Path(src.path if isinstance(src, ByteRange) else src)
    part = (src.offset, src.size) if isinstance(src, ByteRange) else None
    try:
        now = path.stat()
    except OSError:
        return None
    return path, part, now.st_ino, now.st_size, now.st_mtime_ns, tuple(streams)
