"""Running measures of one file: when its packets are shown, what its pictures look like, how loud its sound is."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PICTURE_SIZE = (32, 36)  # height and width of what is measured: 8 x 9 cells of 4 x 4 for the picture hash

_BLOCK_S = 0.1  # loudness is that of the loudest block
_UNEVEN, _UNEVEN_SHARE = 0.2, 0.02  # a frame interval this far from the median is odd; this share of odd ones is VFR
_FLAT = 4.0  # grey levels; a picture with less contrast has no hash


@dataclass
class PacketTimes:
    """Presentation times of one file's picture and sound, s from the clip's origin."""

    shown: array = field(default_factory=lambda: array("d"))  # of each picture
    heard: array = field(default_factory=lambda: array("d"))  # of each packet of sound
    tick: float = 0.0  # of the picture's stamps
    starts: dict[str, float] = field(default_factory=dict)  # kind -> first
    ends: dict[str, float] = field(default_factory=dict)  # kind -> end of the last
    issues: set[str] = field(default_factory=set)

    def add(self, kind: str, time: float, length: float) -> None:
        self.starts[kind] = min(time, self.starts.get(kind, time))
        self.ends[kind] = max(time + length, self.ends.get(kind, time + length))
        (self.shown if kind == "video" else self.heard).append(time)

    def pictures(self, count: int) -> tuple[float, ...]:
        """When to look, at most `count` times: at pictures evenly spread over all, not in holes between."""
        shown = np.sort(np.frombuffer(self.shown, np.float64))
        places = ((np.arange(count) + 0.5) / count * len(shown)).astype(int)
        return tuple(np.maximum(np.unique(shown[places]), 0.0).tolist()) if len(shown) else ()

    def sounds(self, count: int, last: float) -> list[float]:
        """When to listen: at packets evenly spread over all that begin up to `last` s."""
        heard = np.sort(np.frombuffer(self.heard, np.float64))
        heard = heard[heard <= last]
        places = np.linspace(0, len(heard) - 1, count).astype(int)
        return np.maximum(heard[places], 0.0).tolist() if len(heard) else [0.0]

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = {"frames": len(self.shown) or None}
        if self.ends:
            told["measured_duration"] = max(self.ends.values())
        if len(self.starts) == 2:
            told["av_offset"] = self.starts["audio"] - self.starts["video"]
        steps = np.diff(np.sort(np.frombuffer(self.shown, np.float64))) if len(self.shown) > 2 else np.zeros(0)
        if steps.sum() > 0:
            told["measured_fps"] = len(steps) / float(steps.sum())
            median = float(np.median(steps))
            odd = np.abs(steps - median) > max(_UNEVEN * median, 1.5 * self.tick)
            told["variable_rate"] = bool(odd.sum() > max(1, _UNEVEN_SHARE * len(steps)))
        return told


class Seen:
    """Running measures of the pictures handed to it, (H, W, 3) uint8 of one size."""

    def __init__(self) -> None:
        self.count = 0
        self.brightest = 0
        self.change = 0
        self.hashes: list[str] = []
        self._first: np.ndarray | None = None

    def add(self, image: np.ndarray) -> None:
        grey = image.mean(axis=2)
        self._first = grey if self._first is None else self._first
        self.count += 1
        self.brightest = max(self.brightest, float(grey.max()))
        self.change = max(self.change, float(np.abs(grey - self._first).max()))

    def told(self) -> dict[str, Any]:
        if not self.count:
            return {}
        measures = {"seen": self.count, "brightness": self.brightest / 255, "change": self.change / 255}
        return measures | {"picture_hash": "".join(self.hashes)}


class Heard:
    """The loudest block of the sound handed to it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.power = 0.0
        self.hash: str | None = None

    def add(self, samples: np.ndarray, rate: int) -> None:
        block = max(round(_BLOCK_S * rate), 1)
        whole = len(samples) // block * block
        blocks = samples[:whole].reshape(-1, block) if whole else samples[None]
        if len(samples):
            power = np.nan_to_num(np.square(blocks, dtype=np.float64).mean(axis=1), nan=0.0, posinf=0.0)
            self.power = max(self.power, float(power.max()))
            self.seconds += len(samples) / rate

    def told(self) -> dict[str, Any]:
        measures = {"heard": self.seconds, "loudness": self.power**0.5, "sound_hash": self.hash}
        return measures if self.seconds else {}


def picture_hash(image: np.ndarray) -> str:
    """The difference hash of (32, 36, 3) uint8 as 16 hex digits: is each of 8 x 9 cells brighter than its neighbour?

    Scaling and recompression leave it nearly as it is. All zeros for a picture without contrast.
    """
    cells = image.mean(axis=2).reshape(8, 4, 9, 4).mean(axis=(1, 3))
    if cells.std() < _FLAT:
        return "0" * 16
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def sound_hash(samples: np.ndarray) -> str:
    """8 hex digits of a waveform (N,): is each of 33 equal parts louder than the one before? Zeros for silence."""
    if len(samples) < 33 or not samples.any():
        return "0" * 8
    power = [float(np.square(part, dtype=np.float64).mean()) for part in np.array_split(samples, 33)]
    return np.packbits(np.diff(power) > 0).tobytes().hex()
