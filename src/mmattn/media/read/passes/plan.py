"""Which packets have to be decoded for the frames shown at given times. Arithmetic on packets, no decoding.

The frame shown at t is the one with the last presentation time <= t. Packets come in decoding order, and none later
packet is presented before the decoding time of the present one (pts >= dts, and dts rises): t is settled once dts has
passed it. Frames after a key frame need nothing before it. So only runs of a file are decoded, each from a key frame to
the last shown packet. A file that breaks these rules is read sequentially instead.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mmattn.media.open.packets import StreamClock

_HELD_BYTES = 1 << 28  # of packets between two key frames
_TO_END_S = 1e-6  # a time this close to the last frame's end is after it


class Unplannable(Exception):
    """The file breaks the rules that a plan relies on: it has to be decoded sequentially."""


class Stamped(Protocol):
    """The fields of a packet that a plan uses. Stamps in ticks of the stream."""

    pts: Any
    dts: Any
    duration: Any
    size: Any
    is_keyframe: Any
    is_discard: Any
    is_corrupt: Any


@dataclass(frozen=True)
class FrameClock(StreamClock):
    """The clock of a video stream. A frame may be stamped up to `slack` s late."""

    slack: float = 0.0

    def stamp(self, time: float) -> int:
        """The last stamp not after `time`."""
        return math.floor((time + self.slack + self.origin) / self.tick)


@dataclass
class PacketRun:
    """Packets to decode in turn with a reset decoder, up to the last shown one."""

    packets: list[Any]
    shown: dict[int, list[int]] = field(default_factory=dict)  # pts -> which grid times show it
    first_of_file: bool = False  # else the first packet is a key frame


class Plan:
    """Takes a stream's packets in turn and returns the runs that show the increasing grid times (T,), s."""

    def __init__(self, grid: np.ndarray, clock: FrameClock) -> None:
        self._grid: list[float] = grid.tolist()
        self._clock = clock
        self.settled = 0  # grid times whose packet is known
        self.end: float | None = None  # until when the last frame so far is shown, s
        self.last_pts: int | None = None  # of the packets since the start or the last seek
        self.start_over(first_of_file=True)

    @property
    def wanted(self) -> float | None:
        """The first grid time that is not settled, s; None when all are."""
        return self._grid[self.settled] if self.settled < len(self._grid) else None

    def start_over(self, first_of_file: bool) -> None:
        """Begin anew: the next packet is the file's first, or the first after a seek."""
        self._held: list[Any] = []
        self._order: list[tuple[float, int]] = []  # (time less slack, place in held), rising
        self._keys: list[tuple[float, int]] = []
        self._stamps: set[int] = set()
        self._shown: dict[int, list[int]] = {}
        self._last_shown = -1  # place in held
        self._bytes = 0
        self._first_of_file = first_of_file
        self._now = -math.inf
        self.last_pts = None

    def add(self, packet: Stamped) -> list[PacketRun]:
        """Take the next packet. After a seek those before the first key frame are dropped. Raises Unplannable."""
        if packet.pts is None or packet.is_corrupt:
            raise Unplannable("a packet without a time, or damaged")
        if not (self._held or self._first_of_file or packet.is_keyframe):
            return []
        runs: list[PacketRun] = []
        if packet.dts is not None:
            now = self._clock.time(packet.dts) - self._clock.slack
            if now < self._now or packet.pts < packet.dts:
                raise Unplannable("decoding times that fall, or come after the presentation")
            self._now = now
            while self.wanted is not None and self._knows(self.wanted):
                self._settle(runs)
        time = self._clock.time(packet.pts) - self._clock.slack
        if packet.is_keyframe and self.wanted is not None and time <= self.wanted:
            self._cut(len(self._held), runs)
        self._hold(packet, time)
        return runs

    def finish(self) -> list[PacketRun]:
        """Take note that the stream has ended: its last frame is shown until its end, later times get none."""
        runs: list[PacketRun] = []
        while self.wanted is not None and self.end is not None and self.wanted < self.end - _TO_END_S:
            self._settle(runs)
        del self._grid[self.settled :]
        return runs + self.flush()

    def flush(self) -> list[PacketRun]:
        """Close the open run."""
        runs: list[PacketRun] = []
        self._cut(len(self._held), runs)
        return runs

    def _knows(self, time: float) -> bool:
        """Whether no later packet can be the one shown at `time`."""
        if self._first_of_file and (not self._order or time < self._order[0][0]):
            return bool(self._order) and self._order[0][0] < self._now  # times before it show the first frame
        return time < self._now

    def _hold(self, packet: Stamped, time: float) -> None:
        place = len(self._held)
        self._held.append(packet)
        self._bytes += packet.size
        if self._bytes > _HELD_BYTES:
            raise Unplannable("key frames too far apart to hold what lies between")
        if packet.is_keyframe:
            self._keys.append((time, place))
        self.last_pts = packet.pts if self.last_pts is None else max(self.last_pts, packet.pts)
        if packet.is_discard:
            return
        if packet.pts in self._stamps:
            raise Unplannable("two frames of one time")
        self._stamps.add(packet.pts)
        insort(self._order, (time, place))
        end = self._clock.time(packet.pts) + self._clock.length(packet.duration)
        self.end = end if self.end is None else max(self.end, end)

    def _settle(self, runs: list[PacketRun]) -> None:
        """Find the packet that is shown at the next grid time."""
        time = self._grid[self.settled]
        key = max((place for key_time, place in self._keys if key_time <= time), default=0)
        if key > self._last_shown:  # else a leading frame is shown, which needs packets before the key frame
            self._cut(key, runs)
        at = bisect_right(self._order, (time, math.inf)) - 1
        if at < 0 and not (self._first_of_file and self._order):
            raise Unplannable("no frame at or before a time")
        _, place = self._order[max(at, 0)]
        self._shown.setdefault(self._held[place].pts, []).append(self.settled)
        self._last_shown = max(self._last_shown, place)
        self.settled += 1

    def _cut(self, place: int, runs: list[PacketRun]) -> None:
        """Close the open run and drop the held packets before `place`."""
        if self._shown:
            runs.append(PacketRun(self._held[: self._last_shown + 1], self._shown, self._first_of_file))
            self._shown, self._last_shown = {}, -1
        if place:
            self._first_of_file = False
            self._bytes -= sum(packet.size for packet in self._held[:place])
            self._held = self._held[place:]
            self._order = [(time, at - place) for time, at in self._order if at >= place]
            self._keys = [(time, at - place) for time, at in self._keys if at >= place]
