"""Where a file ends, from its packets, for files whose header cannot be trusted (see trust.py)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from av.container.input import InputContainer
from av.packet import Packet

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.open.container import Deadline, Limits, open_container
from mmattn.media.open.packets import StreamClock, demux
from mmattn.media.open.source import Source
from mmattn.media.open.streams import AnyStream, Chosen, choose

_REMEMBERED = 64  # measured files, so that several spans of one file measure it once


@dataclass(frozen=True)
class Extent:
    """`end` in s after the clip's t = 0. `steady`: the file's own clock never jumps, so seeking by it is safe."""

    end: float
    steady: bool


class StreamEnd:
    """Where one stream ends, from all its packets in turn."""

    def __init__(self, stream: AnyStream, origin: float) -> None:
        self._clock = StreamClock.of(stream, origin)
        self._end, self._length = 0.0, 0.0
        self.count = 0  # packets
        self._broken, self._last = False, None

    def add(self, packet: Packet) -> None:
        """Take the stream's next packet."""
        if not packet.size or packet.is_discard:
            return
        length = self._clock.length(packet.duration)
        self.count, self._length = self.count + 1, self._length + length
        backwards = self._last is not None and packet.dts is not None and packet.dts < self._last
        self._broken = self._broken or packet.pts is None or backwards
        self._last = packet.dts
        if packet.pts is not None:
            self._end = max(self._end, self._clock.time(packet.pts) + length)

    @property
    def end(self) -> float:
        """End of the last packet, s; where stamps are missing or fall, the sum of the lengths."""
        return self._length if self._broken else self._end


def extent(
    src: Source,
    limits: Limits,
    deadline: Deadline,
    follow_symlinks: bool,
    streams: tuple[int | None, int | str | None] = (None, None),
) -> Extent:
    """Measure where the given video and audio streams (None: the best) end, from their packets; nothing is decoded.

    Raises MediaError: too_long where the packets go beyond the limit, and as read_clip does.
    """
    with open_container(src, limits=limits, deadline=deadline, follow_symlinks=follow_symlinks) as container:
        return _measured(src, container, choose(container, deadline.path, *streams), limits, deadline)


_found: OrderedDict[object, Extent] = OrderedDict()


def _measured(src: Source, container: InputContainer, chosen: Chosen, limits: Limits, deadline: Deadline) -> Extent:
    streams = chosen.streams
    key = _key(src, [stream.index for stream in streams])
    if key is not None and key in _found:
        return _found[key]
    ends = {stream.index: StreamEnd(stream, chosen.origin) for stream in streams}
    issues: set[str] = set()
    for packet in demux(container, *streams, deadline=deadline, issues=issues):
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
    """Identifies the file in its present state; None where that is not known."""
    if isinstance(src, (bytes, bytearray, memoryview)) or not isinstance(src, str | Path | ByteRange):
        return None
    path = Path(src.path if isinstance(src, ByteRange) else src)
    part = (src.offset, src.size) if isinstance(src, ByteRange) else None
    try:
        now = path.stat()
    except OSError:
        return None
    return path, part, now.st_ino, now.st_size, now.st_mtime_ns, tuple(streams)
