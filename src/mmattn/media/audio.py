"""The sound of a span as one waveform on the clip's clock.

Every decoded frame is placed by its own timestamp: late sound is preceded by zeros, a gap is filled with zeros, an
overlap is cut. Downmix is the plain mean of the channels, taken before resampling: FFmpeg's own mono downmix has a
gain that depends on layout and sample format.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mmattn.errors import MediaError
from mmattn.media.open import Limits

_JITTER_S = 0.04  # timestamps of one uninterrupted sound are rounded to the container's clock, ms or worse
_JUMP_S = 1.0  # further back than this is a broken clock, not an overlap
_SETTLE_S = 0.1  # sound kept on both sides of the span so that the resampler's edges fall outside it
_CHUNK = 1 << 18  # samples resampled at once; a call for each frame is twice as slow
_SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}


def mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the frame's channels, (samples,) float32, full scale = 1."""
    name = frame.format.name
    samples = frame.to_ndarray()
    channels = samples if name.endswith("p") else samples.reshape(-1, frame.layout.nb_channels).T
    kind = name.removesuffix("p")
    offset = 128.0 if kind == "u8" else 0.0
    mean = channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float64)
    return ((mean - offset) / _SCALE.get(kind, 1.0)).astype(np.float32)


class _Segment:
    """One uninterrupted run of samples of one rate, resampled as it grows."""

    def __init__(self, time: float, rate: int, out_rate: int) -> None:
        self.time = time
        self.rate = rate
        self.samples = 0  # at `rate`
        self._pending: list[np.ndarray] = []
        self._pending_samples = 0
        self._resampler = AudioResampler(format="flt", layout="mono", rate=out_rate)
        self.out: list[np.ndarray] = []

    @property
    def end(self) -> float:
        return self.time + self.samples / self.rate

    def add(self, samples: np.ndarray) -> None:
        self._pending.append(samples)
        self._pending_samples += len(samples)
        self.samples += len(samples)
        if self._pending_samples >= _CHUNK:
            self._push()

    def _push(self) -> None:
        if not self._pending_samples:
            return
        frame = av.AudioFrame.from_ndarray(np.concatenate(self._pending)[None], format="flt", layout="mono")
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = self.samples - self._pending_samples
        self._pending, self._pending_samples = [], 0
        self._keep(self._resampler.resample(frame))

    def finish(self) -> None:
        self._push()
        self._keep(self._resampler.resample(None))  # the filter still holds the tail

    def _keep(self, frames: list) -> None:
        self.out += [frame.to_ndarray().reshape(-1) for frame in frames if frame is not None]


class SoundTrack:
    """Collects decoded audio frames of [start, end) s into one waveform at `rate` Hz (None: the file's own)."""

    def __init__(self, path: str, start: float, end: float | None, rate: int | None, limits: Limits) -> None:
        self._path, self._start, self._end, self._limits = path, start, end, limits
        self.rate = rate
        self.issues: set[str] = set()
        self._segments: list[_Segment] = []
        self._format: tuple[str, str, int] | None = None
        self._shift = 0.0  # added to timestamps after the file's clock was put back
        self._kept = 0
        self.first_time: float | None = None
        self.last_end = 0.0  # where the sound decoded so far ends, s

    @property
    def done(self) -> bool:
        """Whether the sound has passed the span's end."""
        return self._end is not None and self.last_end > self._end + _SETTLE_S

    def add(self, frame: AudioFrame, time: float | None) -> None:
        """Place one frame; `time` s on the clip's clock, None where the file does not say."""
        if not frame.samples or not frame.sample_rate:
            return
        self._watch_format(frame)
        time = self._place(time)
        end = time + frame.samples / frame.sample_rate
        overlap = 0.0 if self.first_time is None else self.last_end - time
        self.first_time = time if self.first_time is None else self.first_time
        self.last_end = max(self.last_end, end)
        if end < self._start - _SETTLE_S or (self._end is not None and time > self._end + _SETTLE_S):
            return
        samples = mono(frame)
        if overlap > _JITTER_S:
            self.issues.add("overlap")
            samples = samples[round(overlap * frame.sample_rate) :]
            time += overlap
        if len(samples):
            self._segment(time, frame.sample_rate).add(samples)
            self._watch_size(len(samples))

    def _place(self, time: float | None) -> float:
        """The frame's time, made to run on where the file's clock is missing or jumps back."""
        if time is None:
            return self.last_end
        if self.first_time is not None and time + self._shift < self.last_end - _JUMP_S:
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
        self.rate = self.rate or rate
        self._segments.append(_Segment(time, rate, self.rate))
        return self._segments[-1]

    def _watch_format(self, frame: AudioFrame) -> None:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._format is not None and now != self._format:
            self.issues.add("format_change")
        self._format = now

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
        if not np.isfinite(out).all():  # float formats can hold anything
            np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            self.issues.add("bad_samples")
        if not out.any():
            self.issues.add("silent_audio")
        return np.clip(out, -1.0, 1.0, out=out)


def _paste(out: np.ndarray, segment: _Segment, at: int) -> None:
    for piece in segment.out:
        low, high = max(at, 0), min(at + len(piece), len(out))
        if high > low:
            out[low:high] = piece[low - at : high - at]
        at += len(piece)
