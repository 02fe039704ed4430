"""Front ends: a waveform becomes rows of mel bands. Silence has the lowest value.

Two are built in: `log_mel`, and `kaldi` for encoders that were trained on Kaldi's filter banks (AST, CAV-MAE). Another
is a subclass of FrontEnd. Shape legend: N waveform samples, F rows, M mel bands.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError


class FrontEnd(ABC):
    """A front end. `floor`: the value of silence and of padding; `per_db`: what 1 dB adds above the floor.

    `hop` and `window` are in samples.
    """

    floor: float
    per_db: float

    def __init__(self, sample_rate: int, mels: int, hop: int, window: int) -> None:
        self.sample_rate = sample_rate
        self.mels = mels
        self.hop = hop
        self.window = window

    @abstractmethod
    def __call__(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "F M"]:
        """`rows(N)` rows of the waveform (N,)."""

    @abstractmethod
    def rows(self, samples: int) -> int:
        """The number of rows for a waveform of `samples`; at least 1."""

    @abstractmethod
    def times(self, rows: int) -> Float[Tensor, " F"]:
        """The middle of each row's window, s after the waveform's start."""

    def louder(self, spectrogram: Float[Tensor, "F M"], db: float) -> Float[Tensor, "F M"]:
        """The spectrogram of the same audio, `db` louder. Silence stays silence."""
        if db == 0:
            return spectrogram
        moved = (spectrogram + db * self.per_db).clamp(min=self.floor)
        return torch.where(spectrogram > self.floor, moved, spectrogram)


class LogMel(FrontEnd):
    """Log power in mel bands from 30 Hz (HTK's scale), in dB relative to a full-scale sine, as (dB + 40) / 20.

    The floor is -80 dB = -2, which is inaudible. Row k is centred on sample k * hop.
    """

    floor = -2.0
    per_db = 1 / 20

    def __call__(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "F M"]:
        size, *made = _mel_filters(self.sample_rate, self.mels, self.window)
        window, filters = (each.to(waveform) for each in made)
        padded = torch.nn.functional.pad(waveform, (size // 2, size // 2))
        spectrum = torch.stft(padded, size, self.hop, self.window, window, center=False, return_complex=True)
        scale = 4 / window.sum().square() * self.window / size  # a full-scale sine has power 1
        power = (spectrum.real.square() + spectrum.imag.square()).mT * scale
        decibel = 10 * torch.log10((power @ filters).clamp(min=1e-8))  # the floor, -80 dB
        return ((decibel + 40) / 20)[: self.rows(len(waveform))]

    def rows(self, samples: int) -> int:
        return max(1, round(samples / self.hop))

    def times(self, rows: int) -> Float[Tensor, " F"]:
        return torch.arange(rows) * (self.hop / self.sample_rate)


class KaldiFbank(FrontEnd):
    """Kaldi's log filter banks as torchaudio computes them, minus AudioSet's mean, over twice its standard deviation.

    With 128 bands at 16 kHz, 25 ms windows and 10 ms hops: the input of AST (Gong et al. 2021) and CAV-MAE (Gong et al.
    2023). Their own code pads short clips with 0 before the scaling, which is louder than most audio; here padding is
    silence: log of float32's epsilon, scaled -1.2776. Rows lie within the waveform; row k starts at sample k * hop.
    """

    mean, spread = -4.2677393, 2 * 4.5689974
    floor = (math.log(torch.finfo(torch.float32).eps) - mean) / spread
    per_db = math.log(10) / 10 / spread

    def __call__(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "F M"]:
        from torchaudio.compliance.kaldi import fbank

        if len(waveform) < self.window:
            waveform = torch.nn.functional.pad(waveform, (0, self.window - len(waveform)))
        bands = fbank(
            waveform[None],
            num_mel_bins=self.mels,
            sample_frequency=self.sample_rate,
            frame_length=1000 * (self.window + 0.5) / self.sample_rate,  # in ms; rounded down to whole samples
            frame_shift=1000 * (self.hop + 0.5) / self.sample_rate,
            window_type="hanning",
            htk_compat=True,
            dither=0.0,
        )
        return ((bands - self.mean) / self.spread).clamp(min=self.floor)

    def rows(self, samples: int) -> int:
        return max(1, 1 + (samples - self.window) // self.hop)

    def times(self, rows: int) -> Float[Tensor, " F"]:
        return (torch.arange(rows) * self.hop + self.window / 2) / self.sample_rate


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, mels: int, window: int) -> tuple[int, Tensor, Tensor]:
    """The size of the Fourier transform (narrow bands need a larger one), the window, the filters (bins, M)."""
    from torchaudio.functional import melscale_fbanks

    for size in (window, 2 * window, 4 * window, 8 * window):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # filters without a bin, which the next size avoids
            filters = melscale_fbanks(size // 2 + 1, 30.0, sample_rate / 2, mels, sample_rate, mel_scale="htk")
        if filters.any(dim=0).all():
            return size, torch.hann_window(window), filters
    raise UsageError(f"data.clip.mels={mels} is more than {window / sample_rate:g} s windows resolve; lower it")
