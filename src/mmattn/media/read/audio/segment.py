"""Consecutive decoded frames become mono samples at one rate, many frames at a time."""

from __future__ import annotations

import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mmattn.media.read.audio.downmix import Downmix, mono, values, weights
from mmattn.media.read.audio.stamps import SampleRun

_CHUNK = 1 << 16  # samples resampled at once: a call for each frame takes four times as long


class AudioSegment:
    """Consecutive samples of one format, resampled as they come."""

    def __init__(self, run: SampleRun, first: int, frame: AudioFrame, out_rate: int, downmix: Downmix) -> None:
        self.run = run
        self.first = first  # the run's sample that it begins with
        self.samples = 0
        self.out: list[np.ndarray] = []
        self._channels = frame.layout.nb_channels
        self._mix = weights(frame.layout, downmix)
        self._fifo = AudioFifo()
        self._queued = 0
        self._resampler = AudioResampler(format="flt", layout="mono", rate=out_rate)

    def add(self, frame: AudioFrame, cut: int = 0) -> bool:
        """Append a frame without its first `cut` samples; False, without any effect, if its format differs."""
        if frame.layout.nb_channels != self._channels:  # the queue does not check this and would write past its end
            return False
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
        """Resample what is left."""
        self._push()
        self._keep(self._resampler.resample(None))  # the filter still holds the tail

    def _push(self) -> None:
        frame = self._fifo.read() if self._queued else None
        self._queued = 0
        if frame is None:
            return
        mixed = AudioFrame("flt", "mono", frame.samples)
        values(mixed.planes[0], np.float32, frame.samples)[:] = mono(frame, self._mix)
        mixed.sample_rate = self.run.rate
        self._keep(self._resampler.resample(mixed))

    def _keep(self, frames: list) -> None:
        self.out += [frame.to_ndarray().reshape(-1) for frame in frames if frame is not None]
