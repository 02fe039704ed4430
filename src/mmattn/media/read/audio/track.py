"""The audio of a span as one waveform on the clip's clock.

Samples are placed by the stamps of their frames (stamps.py): late audio is preceded by zeros, a gap is filled with
zeros, an overlap is cut. Channels are mixed down (downmix.py) before they are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from av.audio.frame import AudioFrame

from mmattn.errors import MediaError
from mmattn.media.open.container import Limits
from mmattn.media.read.audio.assemble import paste, pieces_of
from mmattn.media.read.audio.downmix import Downmix
from mmattn.media.read.audio.segment import AudioSegment
from mmattn.media.read.audio.stamps import Lattice, Level, SampleClock, SampleRun

_LATE_S = 0.04  # audio that begins later than this after the span's start is reported
_APART_S = 0.04  # frames further apart than this are not resampled in one go
JUMP_S = 1.0  # a step back further than this is a broken clock, not an overlap
_SETTLE_S = 0.1  # audio kept on both sides of the span so that the resampler's edges fall outside it
_STAMPS_S = 1.0  # stamps from this long before the span are used to place its first sample


class AudioTrack:
    """Collects the decoded audio frames of [start, end) s into one waveform at `rate` Hz (None: the file's own)."""

    def __init__(
        self,
        path: str,
        start: float,
        end: float | None,
        rate: int | None,
        limits: Limits,
        clock: SampleClock,
        downmix: Downmix,
    ) -> None:
        self._path, self._start, self._end, self._limits = path, start, end, limits
        self._from = start - _SETTLE_S  # audio outside [from, to] is not kept
        self._to = float("inf") if end is None else end + _SETTLE_S
        self._marked = start - _STAMPS_S
        self.clock = clock
        self._downmix: Downmix = downmix
        self.rate = rate
        self.issues: set[str] = set()
        self.lattice: Lattice | None = None  # of all frames, from the file's first ones
        self.is_open = not clock.steady  # whether the file's first frames are known
        self._first_end: float | None = None  # of the file's first frame
        self._run: SampleRun | None = None
        self._segments: list[AudioSegment] = []
        self._finished = 0  # samples of all segments but the last
        self._shift = 0.0  # added to stamps after the file's clock jumped back
        self._step: tuple[float, int] | None = None  # stamp and samples of the run's last frame, s
        self.first_time: float | None = None
        self.last_end = 0.0  # end of the audio decoded so far, s

    @property
    def done(self) -> bool:
        """Whether the audio has passed the span's end."""
        return self.last_end > self._to

    def add_all(self, frames: Sequence[AudioFrame], tick: float, origin: float) -> None:
        """Place frames by their stamps of `tick` s on the clip's clock, which begins at `origin` s.

        With few steps for a frame that follows the one before without a gap: there are about 47 a second.
        """
        segment: AudioSegment | None = None
        for frame in frames:
            stamp, count = frame.pts, frame.samples
            time = None if stamp is None else stamp * tick - origin
            if segment is not None and time is not None and count and time <= self._to:
                run, apart = segment.run, time - self.last_end
                if -_APART_S <= apart <= _APART_S and frame.sample_rate == run.rate and segment.add(frame):
                    run.at.append(run.count)
                    run.times.append(time)
                    run.count += count
                    self.last_end = max(self.last_end, time + count / run.rate)
                    continue
            self.add(frame, time)
            segment = self._growing()
        samples = self._finished + (self._segments[-1].samples if self._segments else 0)
        if samples * 4 > self._limits.decoded_bytes:
            raise MediaError(self._path, "too_large", f"more than {self._limits.decoded_bytes} bytes of audio")

    def add(self, frame: AudioFrame, time: float | None) -> None:
        """Take the next frame; `time`: on the clip's clock, s, None where the file gives none."""
        count, rate = frame.samples, frame.sample_rate
        if not count or not rate:
            return
        run = self._run
        if run is None or run.rate != rate:
            run = self._next_run(rate, time)
        at, stamped = run.count, self._uses(time) and not self._miscounts(time, rate)
        self._step = None if time is None else (time, count)
        if time is None or not stamped:
            time = self.last_end
        elif self._shift or time < self.last_end - JUMP_S:
            time = self.place(time, rate)
        end = time + count / rate
        apart = self.first_time is not None and not -_APART_S <= time - self.last_end <= _APART_S
        self.first_time = time if self.first_time is None else self.first_time
        self.last_end = max(self.last_end, end)
        run.count += count
        if stamped and end >= self._marked:
            run.at.append(at)
            run.times.append(time)
        if stamped and not self.is_open:
            self.open_with(time, count, rate)
        if self._from <= end and time <= self._to:
            self._append(frame, run, at, apart)

    def _growing(self) -> AudioSegment | None:
        """The segment that a following frame can be added to without further checks; None if there is none."""
        last = self._segments[-1] if self._segments else None
        if last is None or not self.is_open or self._shift or self.clock.counted or last.run.follows:
            return None
        return last if last.run is self._run and last.first + last.samples == last.run.count else None

    def open_with(self, time: float, count: int, rate: int) -> None:
        """Take the file's first frames in turn: all others lie whole frames after them."""
        if self._first_end is None:
            self._first_end = time + count / rate  # the first may be short: the encoder's priming samples are cut
        elif not self.is_open:
            self.lattice, self.is_open = Lattice(self._first_end, count), True

    def _uses(self, time: float | None) -> bool:
        return time is not None and not (self.clock.counted and self.first_time is not None)

    def _miscounts(self, time: float | None, rate: int) -> bool:
        """Whether the stamps, after a change of the rate, still count samples of the rate before.

        So it is in joined files of formats without stamps, such as ADTS, and in chained Ogg.
        """
        run = self._run
        if run is None or run.rate != rate or not run.before or time is None:
            return False
        if not run.miscounted and self._step is not None:
            step, count, slack = time - self._step[0], self._step[1], 1 / rate + self.clock.tick
            run.miscounted = abs(step - count / run.before) < slack and abs(step - count / rate) > 4 * slack
        return run.miscounted

    def place(self, time: float | None, rate: int) -> float:
        """The time of a frame of `rate` Hz, continued from the frame before where the stamp cannot be used."""
        if time is None or not self._uses(time) or self._miscounts(time, rate):
            return self.last_end
        if self.first_time is not None and time + self._shift < self.last_end - JUMP_S:
            self._shift = self.last_end - time
            self.issues.add("pts_fixed")
        return time + self._shift

    def _append(self, frame: AudioFrame, run: SampleRun, at: int, apart: bool) -> None:
        """Add a frame, whose first sample is the run's sample `at`, to the last segment or to a new one."""
        last = self._segments[-1] if self._segments else None
        if last is not None:
            follows = last.run is run and last.first + last.samples == at and not apart
            if follows and last.add(frame):
                return
            last.finish()
            self._finished += last.samples
            if not apart:
                self.issues.add("format_change")
        if self.rate is None:
            self.rate = frame.sample_rate
        level = self._levels(run)[-1]
        cut = min(self._lead(level.offset + at / run.rate, run.rate), frame.samples - 1)
        segment = AudioSegment(run, at + cut, frame, self.rate, self._downmix)
        segment.add(frame, cut)
        self._segments.append(segment)

    def _next_run(self, rate: int, time: float | None) -> SampleRun:
        """Begin a run for frames of another rate, the first at `time` s by its stamp, which follow those before."""
        last = self._run
        begin = 0.0 if last is None else self._levels(last)[-1].offset + last.count / last.rate
        before = 0 if last is None else last.before if last.miscounted else last.rate
        if last is not None and last.miscounted and time is not None:
            self._shift = self.last_end - time
        self._run = run = SampleRun(rate, self.clock.tick, begin, follows=last is not None, before=before)
        self._step = None
        return run

    def _levels(self, run: SampleRun) -> list[Level]:
        return run.levels(self.lattice)

    def _lead(self, time: float, rate: int) -> int:
        """Samples to leave out before the span so that resampled ones fall on start + k / rate.

        Output sample k of a segment that begins at `time` s lies at time + k / rate; only its first input sample can
        be chosen.
        """
        assert self.rate is not None
        period = rate // math.gcd(rate, self.rate)
        fits = int((self._start - time) * rate)  # none of the span itself is left out
        if period == 1 or fits <= 0:
            return 0
        at = (time - self._start + np.arange(min(period, fits)) / rate) * self.rate
        return int(np.abs(at - np.round(at)).argmin())

    def waveform(self) -> np.ndarray | None:
        """(N,) float32 in [-1, 1] from `start` to min(end, the audio's end); None if no sample falls in the span."""
        if not self._segments or self.rate is None:
            return None
        self._segments[-1].finish()
        pieces = [
            piece
            for segment in self._segments
            for piece in pieces_of(segment, self._levels(segment.run), self._start, self.rate)
        ]
        end = min(max(piece.end for piece in pieces), self._end if self._end is not None else float("inf"))
        count = round((end - self._start) * self.rate)
        if count <= 0 or pieces[0].time >= end:
            return None
        if count * 4 > self._limits.decoded_bytes:
            raise MediaError(self._path, "too_large", f"{count} samples of audio, mostly gaps")
        out = np.zeros(count, np.float32)
        self.issues |= paste(out, pieces, self._start, self.rate)
        if pieces[0].time - self._start > _LATE_S:
            self.issues.add("late_audio")
        low, high = out.min(), out.max()  # not a number if any sample is not
        if not (np.isfinite(low) and np.isfinite(high)):  # float formats can hold any value
            np.nan_to_num(out, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            self.issues.add("bad_samples")
            low, high = out.min(), out.max()
        if low == high == 0:
            self.issues.add("silent_audio")
        return np.clip(out, -1.0, 1.0, out=out) if low < -1 or high > 1 else out
