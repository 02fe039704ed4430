"""Jumps of a file's clock are removed: files joined byte by byte, an interrupted recording, chained Ogg.

Only in containers whose clock may jump (FFmpeg's flag ts_discont: MPEG-TS and -PS, Ogg) and in joined Matroska. There
a file is a series of parts. Each begins where the longest stream of the previous part ends, and all streams of a part
move together, so that video and audio stay aligned. Elsewhere a hole between two stamps is a pause and stays one.
"""

from __future__ import annotations

import math

from av.container.input import InputContainer
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition, Stream

from mmattn.media.open.joined import may_be_joined

_BACK_S = 0.5  # packets of one part are out of order by less
_AHEAD_S = 10.0  # a hole that all streams share and that is longer is a jump, as ffmpeg's -dts_delta_threshold has it


def may_jump(container: InputContainer) -> bool:
    """Whether the clock of this kind of container may jump, or this file may be a joined one."""
    return _discontinuous(container) or may_be_joined(container)


def continuous_clock(container: InputContainer) -> ContinuousClock:
    """The clock for a file that may jump; where only joined files do, a hole is no jump."""
    return ContinuousClock(_AHEAD_S if _discontinuous(container) else math.inf)


def _discontinuous(container: InputContainer) -> bool:
    return bool(container.format.flags & Flags.ts_discont.value)


def clocked(container: InputContainer) -> list[Stream]:
    """The streams whose packets show together whether the clock jumps."""
    streams = [*container.streams.video, *container.streams.audio]
    return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]


class ContinuousClock:
    """Takes all packets of the clocked streams in order and moves their stamps onto one clock."""

    def __init__(self, ahead_s: float = _AHEAD_S) -> None:
        self._ahead_s = ahead_s
        self._offsets = [0.0]  # of each part, s
        self._part: dict[int, int] = {}  # stream index -> the part it has reached
        self._last: dict[int, float] = {}  # stream index -> decoding time of its last packet, s
        self._newest: float | None = None  # end of the packets so far, s

    @property
    def _jumped(self) -> bool:
        return len(self._offsets) > 1

    def place(self, packet: Packet) -> bool:
        """Move the stamps of the next packet; returns whether a jump was found so far."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or not packet.time_base:
            return self._jumped
        index, tick = packet.stream_index, float(packet.time_base)
        offset = self._offset(packet, stamp * tick, tick)
        if shift := round(offset / tick):
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        self._last[index] = stamp * tick + offset
        end = (stamp if packet.pts is None else packet.pts) * tick + (packet.duration or 0) * tick
        self._newest = end if self._newest is None else max(self._newest, end)
        return self._jumped

    def _offset(self, packet: Packet, time: float, tick: float) -> float:
        """What to add to the packet's stamps: the offset of its stream's part, or of the next part that it fits."""
        part = self._part.get(packet.stream_index, 0)
        while part < len(self._offsets) and not self._fits(packet.stream_index, time + self._offsets[part]):
            part += 1
        if part == len(self._offsets):
            if packet.stream_index not in self._last:  # a clock of its own, as other programmes have
                part = 0
            else:
                assert self._newest is not None
                start = time if packet.pts is None else packet.pts * tick
                self._offsets.append(max(self._newest - start, self._last[packet.stream_index] - time))
        self._part[packet.stream_index] = part
        return self._offsets[part]

    def _fits(self, index: int, time: float) -> bool:
        if self._newest is None:
            return True
        return self._last.get(index, self._newest - self._ahead_s) - _BACK_S <= time <= self._newest + self._ahead_s
