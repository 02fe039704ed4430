"""The sound of a span as one waveform on the clip's clock.

Every decoded frame is placed by its own timestamp: late sound is preceded by zeros, a gap is filled with zeros, an
overlap is cut. Downmix is the plain mean of the channels, taken before resampling: FFmpeg's own mono downmix has a
gain that depends on layout and sample format.
"""

from __future__ import annotations

import math

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mmattn.errors import MediaError
from mmattn.media.open import Limits

_JITTER_S = 0.04  # timestamps of one uninterrupted sound are rounded to the container's clock, ms or worse
JUMP_S = 1.0  # further back than this is a broken clock, not an overlap
_SETTLE_S = 0.1  # sound kept on both sides of the span so that the resampler's edges fall outside it
_CHUNK = 1 << 14  # samples resampled at once: few calls, and they stay in the processor's cache
_MANY = 8  # channels; PyAV's planes of a planar frame run past its end from here on, into a segmentation fault
_SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}


def mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the frame's channels, (samples,) float32, full scale = 1."""
    if frame.format.is_planar and frame.layout.nb_channels >= _MANY:
        frame = _packed(frame)
    name = frame.format.name
    samples = frame.to_ndarray()
    channels = samples if name.endswith("p") else samples.reshape(-1, frame.layout.nb_channels).T
    kind = name.removesuffix("p")
    if len(channels) == 1 and kind == "flt":
        return channels[0]
    mean = channels[0].astype(np.float32 if kind in ("flt", "s16", "u8") else np.float64)
    for channel in channels[1:]:
        mean += channel
    if kind == "u8":
        mean -= 128.0 * len(channels)
    mean *= 1 / (len(channels) * _SCALE.get(kind, 1.0))
    return mean.astype(np.float32, copy=False)


def _packed(frame: AudioFrame) -> AudioFrame:
    """The same samples side by side in one plane."""
    resampler = AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
    (packed,) = resampler.resample(frame)
    return packed


class _Segment:
    """One uninterrupted run of samples of one rate, resampled as it grows."""

    def __init__(self, time: float, rate: int, out_rate: int) -> None:
        self.time = time
        self.rate = rate
        self.samples = 0  # at `rate`
        self.out: list[np.ndarray] = []
        self._fifo = AudioFifo()
        self._kind: tuple[int, str] | None = None  # channels and sample format of the frames in it
        self._resampler = AudioResampler(format="flt", layout="mono", rate=out_rate)

    @property
    def end(self) -> float:
        return self.time + self.samples / self.rate

    def add(self, frame: AudioFrame) -> bool:
        """Append a frame; False if its format or number of channels is not that of the one before."""
        kind = (frame.layout.nb_channels, frame.format.name)
        same = kind == (self._kind or kind)
        if not same:
            self._push()
            self._fifo = AudioFifo()
        self._kind = kind
        frame.pts = None  # placed by the caller
        self._fifo.write(frame)  # which writes past its end for another number of channels
        self.samples += frame.samples
        if self._fifo.samples >= _CHUNK:
            self._push()
        return same

    def add_samples(self, samples: np.ndarray) -> None:
        """Append mono samples (N,) float32."""
        self._push()
        if len(samples):
            self._resample(samples)
        self.samples += len(samples)

    def finish(self) -> None:
        self._push()
        self._keep(self._resampler.resample(None))  # the filter still holds the tail

    def _push(self) -> None:
        frame = self._fifo.read() if self._fifo.samples else None
        if frame is not None:
            self._resample(mono(frame))

    def _resample(self, samples: np.ndarray) -> None:
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = self.rate
        self._keep(self._resampler.resample(frame))

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
        self._shift = 0.0  # added to timestamps after the file's clock was put back
        self._kept = 0
        self.first_time: float | None = None
        self.last_end = 0.0  # where the sound decoded so far ends, s

    @property
    def done(self) -> bool:
        """Whether the sound has passed the span's end."""
        return self.last_end > self._to

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
        self._watch_size(count)
        if overlap > _JITTER_S:
            self.issues.add("overlap")
            self._segment(time + overlap, rate).add_samples(mono(frame)[round(overlap * rate) :])
            return
        segment = self._segment(time, rate)
        lead = 0 if segment.samples else min(self._lead(segment), count)
        if lead:
            segment.time += lead / rate
            segment.add_samples(mono(frame)[lead:])
        elif not segment.add(frame):
            self.issues.add("format_change")

    def place(self, time: float | None) -> float:
        """The frame's time, made to run on where the file's clock is missing or jumps back."""
        if time is None:
            return self.last_end
        if self.first_time is not None and time + self._shift < self.last_end - JUMP_S:
            self._shift = self.last_end - time
            self.issues.add("pts_fixed")
        return time + self._shift

    def _segment(self, time: float, rate: int) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and last.rate == rate and time - last.end <= _JITTER_S:
            return last
        if last is not None:
            last.finish()
            if time - last.end > _JITTER_S:
                self.issues.add("gap")
            else:
                time = last.end  # a change of rate alone does not move the sound
            if last.rate != rate:
                self.issues.add("format_change")
        self.rate = self.rate or rate
        self._segments.append(_Segment(time, rate, self.rate))
        return self._segments[-1]

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

    def _watch_size(self, samples: int) -> None:
        self._kept += samples
        if self._kept * 4 > self._limits.decoded_bytes:
            raise MediaError(self._path, "too_large", f"more than {self._limits.decoded_bytes} bytes of sound")

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
