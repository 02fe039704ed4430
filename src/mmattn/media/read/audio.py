"""The sound of a span as one waveform on the clip's clock.

Every decoded frame is placed by its own timestamp: late sound is preceded by zeros, a gap is filled with zeros, an
overlap is cut. Downmix is the plain mean of the channels, taken before resampling: FFmpeg's own mono downmix has a
gain that depends on layout and sample format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler

from mmattn.errors import MediaError
from mmattn.media.open.container import Limits

_JITTER_S = 0.04  # timestamps of one uninterrupted sound are rounded to the container's clock, ms or worse
JUMP_S = 1.0  # further back than this is a broken clock, not an overlap
_SETTLE_S = 0.1  # sound kept on both sides of the span so that the resampler's edges fall outside it
_CHUNK = 1 << 16  # samples resampled at once: a call for each frame takes four times as long
_MANY = 8  # channels; PyAV's planes of a planar frame run past its end from here on, into a segmentation fault
_SCALES = {  # sample format -> full scale, type, type that holds a sum of channels
    "u8": (2.0**7, np.uint8, np.float32),
    "s16": (2.0**15, np.int16, np.float32),
    "s32": (2.0**31, np.int32, np.float64),
    "s64": (2.0**63, np.int64, np.float64),
    "flt": (1.0, np.float32, np.float32),
    "dbl": (1.0, np.float64, np.float64),
}


def mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the frame's channels, (samples,) float32, full scale = 1."""
    planar, count = frame.format.is_planar, frame.layout.nb_channels
    if planar and count >= _MANY:
        frame, planar = _packed(frame), False
    scale, dtype, exact = _SCALES[frame.format.packed.name]
    planes = [_values(plane, dtype, frame.samples * (1 if planar else count)) for plane in frame.planes]
    channels = planes if planar else planes[0].reshape(-1, count).T
    mean = np.add(channels[0], channels[1], dtype=exact) if count > 1 else channels[0].astype(exact)
    for channel in channels[2:]:
        mean += channel
    if dtype == np.uint8:
        mean -= 128 * count
    mean *= 1 / (count * scale)
    return mean.astype(np.float32, copy=False)


def _values(plane: AudioPlane, dtype: type, count: int) -> np.ndarray:
    """The first `count` values of a plane, shared with it."""
    return np.frombuffer(cast(Any, plane), dtype, count)


def _packed(frame: AudioFrame) -> AudioFrame:
    """The same samples side by side in one plane."""
    resampler = AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
    (packed,) = resampler.resample(frame)
    return packed


class _Segment:
    """One uninterrupted run of samples of one kind, resampled as it grows."""

    def __init__(self, time: float, frame: AudioFrame, out_rate: int) -> None:
        self.time = time
        self.rate = frame.sample_rate
        self.samples = 0  # at `rate`
        self.out: list[np.ndarray] = []
        self._channels = frame.layout.nb_channels
        self._fifo = AudioFifo()
        self._queued = 0
        self._resampler = AudioResampler(format="flt", layout="mono", rate=out_rate)

    @property
    def end(self) -> float:
        return self.time + self.samples / self.rate

    def add(self, frame: AudioFrame, cut: int = 0) -> bool:
        """Append a frame without its first `cut` samples; False, and nothing done, if it is of another kind."""
        if frame.layout.nb_channels != self._channels:  # the queue does not look and would write past its end
            return False
        if cut:
            self._push()
        frame.pts = None  # placed by the caller
        try:
            self._fifo.write(frame)
        except ValueError:  # another sample format or rate
            return False
        if cut:
            self._fifo.read(cut)
        count = frame.samples - cut
        self.samples += count
        self._queued += count
        if self._queued >= _CHUNK:
            self._push()
        return True

    def finish(self) -> None:
        self._push()
        self._keep(self._resampler.resample(None))  # the filter still holds the tail

    def _push(self) -> None:
        frame = self._fifo.read() if self._queued else None
        self._queued = 0
        if frame is None:
            return
        mixed = AudioFrame("flt", "mono", frame.samples)
        _values(mixed.planes[0], np.float32, frame.samples)[:] = mono(frame)
        mixed.sample_rate = self.rate
        self._keep(self._resampler.resample(mixed))

    def _keep(self, frames: list) -> None:
        self.out += [frame.to_ndarray().reshape(-1) for frame in frames if frame is not None]


class SoundTrack:
    """Collects decoded audio frames of [start, end) s into one waveform at `rate` Hz (None: the file's own)."""

    def __init__(self, path: str, start: float, end: float | None, rate: int | None, limits: Limits) -> None:
        self._path, self._start, self._end, self._limits = path, start, end, limits
        self._from = start - _SETTLE_S  # sound outside [from, to] is not kept
        self._to = float("inf") if end is None else end + _SETTLE_S
        self.rate = rate
        self.issues: set[str] = set()
        self._segments: list[_Segment] = []
        self._finished = 0  # samples of all segments but the last
        self._shift = 0.0  # added to timestamps after the file's clock was put back
        self.first_time: float | None = None
        self.last_end = 0.0  # where the sound decoded so far ends, s

    @property
    def done(self) -> bool:
        """Whether the sound has passed the span's end."""
        return self.last_end > self._to

    def add_all(self, frames: Sequence[AudioFrame], tick: float, origin: float) -> None:
        """Place frames by their stamps, `tick` s each, on the clip's clock, which begins at `origin` s.

        In few steps for a frame that simply follows the one before: there are 47 of them in a second.
        """
        queue, low, high, latest = None, 0.0, 0.0, self._to
        for frame in frames:
            stamp = frame.pts
            time = None if stamp is None else stamp * tick - origin
            if queue is not None and time is not None and low <= time <= high and time <= latest and queue.add(frame):
                length = frame.samples / queue.rate
                low = max(low, time + length - _JITTER_S)
                high += length
                continue
            if queue is not None:
                self.last_end = low + _JITTER_S
            self.add(frame, time)
            queue = self._segments[-1] if self._segments and not self._shift else None
            if queue is not None:
                low, high = self.last_end - _JITTER_S, queue.end + _JITTER_S
        if queue is not None:
            self.last_end = low + _JITTER_S
        samples = self._finished + (self._segments[-1].samples if self._segments else 0)
        if samples * 4 > self._limits.decoded_bytes:
            raise MediaError(self._path, "too_large", f"more than {self._limits.decoded_bytes} bytes of sound")

    def add(self, frame: AudioFrame, time: float | None) -> None:
        """Place one frame; `time` s on the clip's clock, None where the file does not say."""
        count, rate = frame.samples, frame.sample_rate
        if not count or not rate:
            return
        time = self.place(time)
        end = time + count / rate
        overlap = 0.0 if self.first_time is None else self.last_end - time
        self.first_time = time if self.first_time is None else self.first_time
        self.last_end = max(self.last_end, end)
        if end < self._from or time > self._to:
            return
        cut = 0
        if overlap > _JITTER_S:
            self.issues.add("overlap")
            cut, time = round(overlap * rate), time + overlap
        if cut < count:
            self._append(frame, time, cut)

    def place(self, time: float | None) -> float:
        """The frame's time, made to run on where the file's clock is missing or jumps back."""
        if time is None:
            return self.last_end
        if self.first_time is not None and time + self._shift < self.last_end - JUMP_S:
            self._shift = self.last_end - time
            self.issues.add("pts_fixed")
        return time + self._shift

    def _append(self, frame: AudioFrame, time: float, cut: int) -> None:
        """Add a frame, less its first `cut` samples, to the last segment or to a new one."""
        last = self._segments[-1] if self._segments else None
        if last is not None:
            gap = time - last.end > _JITTER_S
            if not gap and last.add(frame, cut):
                return
            last.finish()
            self._finished += last.samples
            self.issues.add("gap" if gap else "format_change")
            time = time if gap else last.end  # a change of format alone does not move the sound
        self.rate = self.rate or frame.sample_rate
        segment = _Segment(time, frame, self.rate)
        lead = min(self._lead(segment), frame.samples - cut - 1)
        segment.time += lead / segment.rate
        segment.add(frame, cut + lead)
        self._segments.append(segment)

    def _lead(self, segment: _Segment) -> int:
        """Samples to leave out before the span so that resampled ones fall on start + k / rate, not between.

        Output sample k of a segment lies at segment.time + k / rate; only its first input sample can be chosen.
        """
        assert self.rate is not None
        period = segment.rate // math.gcd(segment.rate, self.rate)
        fits = int((self._start - segment.time) * segment.rate)  # none of the span itself is left out
        if period == 1 or fits <= 0:
            return 0
        at = (segment.time - self._start + np.arange(min(period, fits)) / segment.rate) * self.rate
        return int(np.abs(at - np.round(at)).argmin())

    def waveform(self) -> np.ndarray | None:
        """(N,) float32 in [-1, 1] from `start` to min(end, the sound's end); None if no sample falls in the span."""
        if not self._segments or self.rate is None:
            return None
        self._segments[-1].finish()
        end = min(self._segments[-1].end, self._end if self._end is not None else float("inf"))
        count = round((end - self._start) * self.rate)
        if count <= 0 or self._segments[0].time >= end:
            return None
        if count * 4 > self._limits.decoded_bytes:
            raise MediaError(self._path, "too_large", f"{count} samples of sound, mostly gaps")
        out = np.zeros(count, np.float32)
        for segment in self._segments:
            _paste(out, segment, round((segment.time - self._start) * self.rate))
        if self._segments[0].time - self._start > _JITTER_S:
            self.issues.add("late_audio")
        low, high = out.min(), out.max()  # not a number if any sample is not
        if not (np.isfinite(low) and np.isfinite(high)):  # float formats can hold anything
            np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            self.issues.add("bad_samples")
            low, high = out.min(), out.max()
        if low == high == 0:
            self.issues.add("silent_audio")
        return np.clip(out, -1.0, 1.0, out=out) if low < -1 or high > 1 else out


def _paste(out: np.ndarray, segment: _Segment, at: int) -> None:
    for piece in segment.out:
        low, high = max(at, 0), min(at + len(piece), len(out))
        if high > low:
            out[low:high] = piece[low - at : high - at]
        at += len(piece)
