"""Running measures of one file: the times of its packets, how its frames look, how loud its audio is."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PICTURE_SIZE = (32, 36)  # height and width of the measured frames: 8 x 9 cells of 4 x 4 for the hash

_BLOCK_S = 0.1  # loudness is measured in blocks
_UNEVEN, _UNEVEN_SHARE = 0.2, 0.02  # an interval this far from the median is uneven; this share of uneven ones is VFR
_FLAT = 4.0  # grey levels; a frame with less contrast has no hash


@dataclass
class PacketTimes:
    """Presentation times of one file's video and audio packets, s after the clip's origin."""

    video: array = field(default_factory=lambda: array("d"))  # of each frame
    audio: array = field(default_factory=lambda: array("d"))  # of each audio packet
    tick: float = 0.0  # of the video's stamps, s
    starts: dict[str, float] = field(default_factory=dict)  # kind -> first
    ends: dict[str, float] = field(default_factory=dict)  # kind -> end of the last
    issues: set[str] = field(default_factory=set)

    def add(self, kind: str, time: float, length: float) -> None:
        """Take a packet of a "video" or "audio" stream; `time` and `length` in s."""
        self.starts[kind] = min(time, self.starts.get(kind, time))
        self.ends[kind] = max(time + length, self.ends.get(kind, time + length))
        (self.video if kind == "video" else self.audio).append(time)

    def frame_times(self, count: int) -> tuple[float, ...]:
        """The times of at most `count` frames, evenly spread over all of them, s."""
        shown = np.sort(np.frombuffer(self.video, np.float64))
        places = ((np.arange(count) + 0.5) / count * len(shown)).astype(int)
        return tuple(np.maximum(np.unique(shown[places]), 0.0).tolist()) if len(shown) else ()

    def audio_times(self, count: int, last: float) -> list[float]:
        """The times of `count` audio packets, evenly spread over those that begin up to `last` s."""
        heard = np.sort(np.frombuffer(self.audio, np.float64))
        heard = heard[heard <= last]
        places = np.linspace(0, len(heard) - 1, count).astype(int)
        return np.maximum(heard[places], 0.0).tolist() if len(heard) else [0.0]

    def measures(self) -> dict[str, Any]:
        """The fields of a Survey."""
        found: dict[str, Any] = {"frames": len(self.video) or None}
        if self.ends:
            found["measured_duration"] = max(self.ends.values())
        if len(self.starts) == 2:
            found["av_offset"] = self.starts["audio"] - self.starts["video"]
        steps = np.diff(np.sort(np.frombuffer(self.video, np.float64))) if len(self.video) > 2 else np.zeros(0)
        if steps.sum() > 0:
            found["measured_fps"] = len(steps) / float(steps.sum())
            median = float(np.median(steps))
            uneven = np.abs(steps - median) > max(_UNEVEN * median, 1.5 * self.tick)
            found["variable_rate"] = bool(uneven.sum() > max(1, _UNEVEN_SHARE * len(steps)))
        return found


class VideoMeasures:
    """Running measures of frames (H, W, 3) uint8 of one size."""

    def __init__(self) -> None:
        self.count = 0
        self.brightest = 0
        self.change = 0
        self.hashes: list[str] = []
        self._first: np.ndarray | None = None

    def add(self, image: np.ndarray) -> None:
        """Take the next frame."""
        grey = image.mean(axis=2)
        self._first = grey if self._first is None else self._first
        self.count += 1
        self.brightest = max(self.brightest, float(grey.max()))
        self.change = max(self.change, float(np.abs(grey - self._first).max()))

    def measures(self) -> dict[str, Any]:
        """The fields of a Survey; none without a frame."""
        if not self.count:
            return {}
        measures = {"seen": self.count, "brightness": self.brightest / 255, "change": self.change / 255}
        return measures | {"picture_hash": "".join(self.hashes)}


class AudioMeasures:
    """The loudest block of audio."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.power = 0.0
        self.hash: str | None = None

    def add(self, samples: np.ndarray, rate: int) -> None:
        """Take the next samples (N,) at `rate` Hz."""
        block = max(round(_BLOCK_S * rate), 1)
        whole = len(samples) // block * block
        blocks = samples[:whole].reshape(-1, block) if whole else samples[None]
        if len(samples):
            power = np.nan_to_num(np.square(blocks, dtype=np.float64).mean(axis=1), nan=0.0, posinf=0.0)
            self.power = max(self.power, float(power.max()))
            self.seconds += len(samples) / rate

    def measures(self) -> dict[str, Any]:
        """The fields of a Survey; none without audio."""
        measures = {"heard": self.seconds, "loudness": self.power**0.5, "sound_hash": self.hash}
        return measures if self.seconds else {}


def picture_hash(image: np.ndarray) -> str:
    """The difference hash of (32, 36, 3) uint8 in 16 hex digits: is each of 8 x 9 cells brighter than its neighbour?

    Scaling and recompression change few bits. All zeros for a frame without contrast.
    """
    cells = image.mean(axis=2).reshape(8, 4, 9, 4).mean(axis=(1, 3))
    if cells.std() < _FLAT:
        return "0" * 16
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def sound_hash(samples: np.ndarray) -> str:
    """A hash of a waveform (N,) in 8 hex digits: is each of 33 parts louder than the one before? 0 for silence."""
    if len(samples) < 33 or not samples.any():
        return "0" * 8
    power = [float(np.square(part, dtype=np.float64).mean()) for part in np.array_split(samples, 33)]
    return np.packbits(np.diff(power) > 0).tobytes().hex()
