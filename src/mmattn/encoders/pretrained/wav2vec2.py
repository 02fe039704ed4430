"""Front ends that published audio networks were trained on, batched, in float32 whatever precision is asked for.

Each takes waveforms (N, n) in [-1, 1] and how many samples of each are `heard`, and fills up behind them as its own
library does. Shape legend: F rows in time, M mel bands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.pixels import full_precision


def _in_float32(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(forward)
    def run(self: nn.Module, waveform: Tensor, *rest: Any) -> Tensor:
        with full_precision(waveform.device):
            return forward(self, waveform.float(), *rest)

    return run


class KaldiFilterBanks(nn.Module):
    """Kaldi's log filter banks at 16 kHz (25 ms Hanning windows, 10 ms hops), less `mean`, over twice `std`.

    (N, n) -> (N, length, mels), rows behind the sound are 0 before the scaling: what AST was trained on (Gong et al.
    2021).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int, length: int, mean: float, std: float) -> None:
        from torchaudio.compliance.kaldi import get_mel_banks

        super().__init__()
        self.length, self.mean, self.std = length, mean, std
        banks, _ = get_mel_banks(mels, 512, 16000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("filters", nn.functional.pad(banks, (0, 1)).T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(400, periodic=False), persistent=False)

    @staticmethod
    def samples(rows: int) -> int:
        """How much sound makes so many rows."""
        return 400 + 160 * (rows - 1)

    @_in_float32
    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N F M"]:
        frames = waveform.unfold(1, 400, 160)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - 0.97 * before) * self.window
        power = torch.fft.rfft(frames, 512).abs().square()
        bands = (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
        rows = (1 + (heard - 400) // 160).clamp(min=0)
        bands = bands * (torch.arange(bands.shape[1], device=bands.device) < rows[:, None])[..., None]
        bands = nn.functional.pad(bands, (0, 0, 0, self.length - bands.shape[1]))
        return (bands - self.mean) / (2 * self.std)


class WhisperLogMel(nn.Module):
    """Log mel bands at 16 kHz, the loudest 80 dB of each window, as (log10 + 4) / 4: (N, n) -> (N, M, n / 160).

    Source: Radford et al. 2022.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        filters = melscale_fbanks(201, 0.0, 8000.0, mels, 16000, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(400), persistent=False)

    @_in_float32
    def forward(self, waveform: Float[Tensor, "N n"]) -> Float[Tensor, "N M F"]:
        spectrum = torch.stft(waveform, 400, 160, window=self.window, return_complex=True)[..., :-1]
        bands = (self.filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


class ClapLogMel(nn.Module):
    """Mel bands in dB at 48 kHz (50 Hz to 14 kHz, 10 ms hops), short sound repeated: (N, n) -> (N, 1 + n / 480, M).

    Source: Wu et al. 2023 (LAION-CLAP). `slaney`: the filters of its models without feature fusion.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int, low: float, high: float, slaney: bool) -> None:
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        norm, scale = ("slaney", "slaney") if slaney else (None, "htk")
        filters = melscale_fbanks(513, low, high, mels, 48000, norm=norm, mel_scale=scale)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(1024), persistent=False)

    @_in_float32
    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N F M"]:
        places = torch.arange(waveform.shape[1], device=waveform.device)
        heard = heard.clamp(min=1)[:, None]
        repeated = waveform.gather(1, places % heard)  # as often as it fits whole, then silence
        repeated = repeated * (places < waveform.shape[1] // heard * heard)
        spectrum = torch.stft(repeated, 1024, 480, window=self.window, return_complex=True)
        return 10 * (spectrum.abs().square().mT @ self.filters).clamp(min=1e-10).log10()


def reflected(places: Int[Tensor, "N n"], heard: Int[Tensor, "N 1"]) -> Int[Tensor, "N n"]:
    """Which sample stands at each place when what is `heard` goes on behind its end as its reflection, to and fro."""
    period = (2 * (heard - 1)).clamp(min=1)
    turned = places % period
    return torch.where(turned < heard, turned, period - turned)


class UnitVariance(nn.Module):
    """The waveform less its mean, over its spread, both of what is heard; 0 behind: (N, n) -> (N, n)."""

    @_in_float32
    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N n"]:
        real = torch.arange(waveform.shape[1], device=waveform.device) < heard[:, None]
        count = heard.clamp(min=1)[:, None]
        mean = (waveform * real).sum(dim=1, keepdim=True) / count
        centred = (waveform - mean) * real
        return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()
