"""A decoded clip becomes arrays of fixed shape: frames on a grid in seconds, and a log-mel spectrogram.

Shapes are fixed by the `ClipSpec`; the keep masks say what is real. It travels in the checkpoint, so that prediction
prepares its input exactly as training did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mmattn.media.request import Request
from mmattn.types import Clip

Reader = Callable[[Path, Request], Clip]
FLOOR_DB = -80.0  # silence; full scale sine is near 0 dB, so nothing a person hears lies below
CENTRE_DB, SPREAD_DB = -40.0, 20.0  # log-mel values become (dB - centre) / spread, in about [-2, 2]
FLOOR = (FLOOR_DB - CENTRE_DB) / SPREAD_DB


@dataclass(frozen=True)
class Sample:
    """One clip as a model sees it. Times are seconds from the start of its span."""

    frames: UInt8[Tensor, "T 3 H W"]
    frame_keep: Bool[Tensor, " T"]
    frame_times: Float[Tensor, " T"]
    spectrogram: Float[Tensor, "F M"]
    spectrogram_keep: Bool[Tensor, " F"]
    spectrogram_times: Float[Tensor, " F"]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in vars(self).values())


@dataclass(frozen=True)
class ClipSpec:
    """What a model sees of a clip: `seconds` of it, `fps` frames a second of height x width, `mels` mel bands."""

    seconds: float = 3.0
    fps: float = 8.0
    height: int = 48
    width: int = 48
    sample_rate: int = 16000
    mels: int = 64
    hop_s: float = 0.01
    window_s: float = 0.025

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"data.clip.{name} must be above 0, got {value}")

    @property
    def frame_count(self) -> int:
        return max(1, round(self.seconds * self.fps))

    @property
    def hop(self) -> int:
        """Samples from one spectrogram row to the next: `hop_s` in whole samples. Times are counted in these."""
        return max(1, round(self.hop_s * self.sample_rate))

    @property
    def spectrogram_length(self) -> int:
        return max(1, round(self.seconds * self.sample_rate / self.hop))

    def times(self, start: float, end: float) -> list[float]:
        """The grid of a span: the middle of each frame's interval, up to `end`."""
        grid = [start + (k + 0.5) / self.fps for k in range(self.frame_count)]
        return [time for time in grid if time < end] or [start]

    def read(self, path: Path, start: float = 0.0, end: float | None = None, *, reader: Reader | None = None) -> Clip:
        """Decode the span [start, start + seconds), cut at `end`. `reader` None: in this process. Raises MediaError."""
        stop = start + self.seconds if end is None else min(end, start + self.seconds)
        request = Request(
            times=self.times(start, stop),
            start=start,
            end=stop,
            size=(self.height, self.width),
            audio_rate=self.sample_rate,
        )
        if reader is not None:
            return reader(path, request)
        from mmattn.media.decode import answer

        return answer(request, path, follow_symlinks=True)

    def prepare(self, clip: Clip) -> Sample:
        """Pad to the fixed shapes and compute the spectrogram. A missing modality has all-False masks."""
        start = clip.span[0]
        frames = torch.zeros(self.frame_count, 3, self.height, self.width, dtype=torch.uint8)
        frame_keep = torch.zeros(self.frame_count, dtype=torch.bool)
        frame_times = (torch.arange(self.frame_count) + 0.5) / self.fps
        if clip.frames is not None:
            count = min(len(clip.frames), self.frame_count)
            frames[:count] = clip.frames[:count]
            frame_keep[:count] = True
            frame_times[:count] = (clip.frame_times[:count] - start).float()
        length = self.spectrogram_length
        spectrogram = torch.full((length, self.mels), FLOOR)
        spectrogram_keep = torch.zeros(length, dtype=torch.bool)
        if clip.waveform is not None and clip.waveform.any():  # digital silence is a missing modality
            mel = self.log_mel(clip.waveform)
            offset = max(0, round((clip.audio_start - start) * self.sample_rate / self.hop))
            count = max(0, min(len(mel), length - offset))
            spectrogram[offset : offset + count] = mel[:count]
            spectrogram_keep[: offset + count] = count > 0
        spectrogram_times = torch.arange(length) * (self.hop / self.sample_rate)
        return Sample(frames, frame_keep, frame_times, spectrogram, spectrogram_keep, spectrogram_times)

    def log_mel(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "F M"]:
        """Log-mel power, one row a hop; silence is the floor, -2."""
        window, filters = _mel_tools(self.sample_rate, self.mels, self.window_s)
        size = window.shape[0]
        padded = torch.nn.functional.pad(waveform, (size // 2, size // 2))
        spectrum = torch.stft(padded, size, self.hop, window=window, center=False, return_complex=True)
        power = spectrum.abs().square().mT / window.sum().square() * 4  # a full-scale sine has power 1
        decibel = 10 * torch.log10((power @ filters).clamp(min=10 ** (FLOOR_DB / 10)))
        rows = round(len(waveform) / self.hop)
        return ((decibel - CENTRE_DB) / SPREAD_DB)[: max(1, rows)]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@lru_cache(maxsize=8)
def _mel_tools(sample_rate: int, mels: int, window_s: float) -> tuple[Tensor, Tensor]:
    from torchaudio.functional import melscale_fbanks

    size = round(window_s * sample_rate)
    filters = melscale_fbanks(size // 2 + 1, 30.0, sample_rate / 2, mels, sample_rate, norm=None, mel_scale="htk")
    return torch.hann_window(size), filters
