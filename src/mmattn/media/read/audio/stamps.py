"""Where samples lie in time, from the stamps of decoded frames and the count of their samples.

Within uninterrupted audio the count is exact and the stamps are rounded: to ms in Matroska, WebM and FLV, to a frame in
AVI. A stamp's departure is its time minus the time by the count, s. Departures within one tick of the clock form one
level, including short excursions (Ogg Vorbis stamps beside short blocks, a capture's jitter). A lasting departure is a
gap or an overlap, however small, and begins a new level. A drifting clock is followed in steps of one tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_SLACK = 3  # samples that stamps may be off beyond their rounding: parsers add up rounded lengths
_RETURN_S = 0.25  # a departure that returns within this time is ignored
_NOISE = 4  # times the usual step between stamps that are worse than their tick: a captured clock


@dataclass(frozen=True)
class SampleClock:
    """How the stamps of one stream are used; they are rounded to `tick` s.

    `steady`: all frames of the codec have one length. `counted`: the stamps are a worse count of the samples, so that
    only the first one is used.
    """

    tick: float
    steady: bool = True
    counted: bool = False


@dataclass(frozen=True)
class Lattice:
    """Frames begin at `time` s and every `length` samples after it."""

    time: float
    length: int


@dataclass(frozen=True)
class Level:
    """From sample `first`, sample n lies at `offset` + n / rate s."""

    first: int
    offset: float


@dataclass
class SampleRun:
    """Consecutive decoded frames of one rate: the count of samples, and the stamps near the span."""

    rate: int
    tick: float  # s
    begin: float = 0.0  # where it begins if there is no stamp, s
    follows: bool = False  # audio of another rate, without a gap if rounding can explain the difference
    before: int = 0  # that other rate, Hz, in which the stamps may still count
    miscounted: bool = False  # they do
    count: int = 0  # samples so far
    at: list[int] = field(default_factory=list)  # sample
    times: list[float] = field(default_factory=list)  # its stamp, s

    def levels(self, lattice: Lattice | None) -> list[Level]:
        """The levels in order, at least one. `lattice`: of the file's frames, where their length is fixed."""
        if not self.at:
            return [Level(0, self.begin)]
        at = np.asarray(self.at)
        departures = np.asarray(self.times) - at / self.rate
        lengths = np.diff(at)
        exact, allowed = self._tolerances(departures, lengths)
        inner = lengths[1:] if len(lengths) > 1 else lengths
        steady = lattice is not None and bool((inner == lattice.length).all())
        levels = []
        for marks in _levels(departures, at / self.rate, allowed):
            found = departures[marks]
            low, high = float(found.min()), float(found.max())
            offset = (low + high) / 2 if high - low <= exact else float(np.median(found))
            if steady and lattice is not None:
                offset = self._snapped(offset, int(at[marks[-1]]), lattice)
            if self.follows and not levels and abs(offset - self.begin) <= exact:
                offset = self.begin
            levels.append(Level(int(at[marks[0]]) if levels else 0, offset))
        return levels

    def _tolerances(self, departures: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
        """How far apart the departures of one level may lie, s: by rounding alone, and with this clock's noise."""
        tick = min(self.tick, float(np.median(lengths)) / self.rate / 2) if len(lengths) else self.tick
        exact = tick + _SLACK / self.rate
        noise = float(np.median(np.abs(np.diff(departures)))) if len(departures) > 2 else 0.0
        return exact, (_NOISE * noise if noise > exact else exact)

    def _snapped(self, offset: float, at: int, lattice: Lattice) -> float:
        """The offset that puts the frame at sample `at` on the lattice, if rounding can explain the difference."""
        step = lattice.length / self.rate
        away = offset + at / self.rate - lattice.time
        away -= round(away / step) * step
        return offset - away if abs(away) <= self.tick + _SLACK / self.rate else offset


@dataclass
class _Group:
    """Consecutive stamps, by number, whose departures lie close together."""

    marks: list[int]
    low: float
    high: float

    def takes(self, low: float, high: float, allowed: float) -> bool:
        return max(self.high, high) - min(self.low, low) <= allowed

    def take(self, marks: list[int], low: float, high: float) -> None:
        self.marks += marks
        self.low, self.high = min(self.low, low), max(self.high, high)


def _levels(departures: np.ndarray, times: np.ndarray, allowed: float) -> list[list[int]]:
    """The stamps of each level in order, without short excursions."""
    if np.ptp(departures) <= allowed:
        return [list(range(len(departures)))]
    groups = _groups(departures.tolist(), allowed)
    kept, k = [groups[0]], 1
    while k < len(groups):
        level, until = kept[-1], times[groups[k].marks[0]] + _RETURN_S
        back = k
        while back < len(groups) and times[groups[back].marks[0]] <= until:
            if level.takes(groups[back].low, groups[back].high, allowed):
                level.take(groups[back].marks, groups[back].low, groups[back].high)
                k = back
                break
            back += 1
        else:
            kept.append(groups[k])
        k += 1
    return [group.marks for group in kept]


def _groups(departures: list[float], allowed: float) -> list[_Group]:
    groups: list[_Group] = []
    for k, departure in enumerate(departures):
        if groups and groups[-1].takes(departure, departure, allowed):
            groups[-1].take([k], departure, departure)
        else:
            groups.append(_Group([k], departure, departure))
    return groups
