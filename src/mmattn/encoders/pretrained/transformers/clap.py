"""The audio tower of CLAP (Wu et al. 2023) of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.precision import in_float32
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import FEATURE_EXTRACTOR, check_same
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, check_rate

FAMILY = Family(
    "CLAP",
    "clap_audio_model",
    "ClapAudioConfig",
    "ClapAudioModel",
    {"clap": "audio_config"},
    prefixes=("audio_model.",),
    processor=(FEATURE_EXTRACTOR,),
)


class CLAPEncoder(WaveformEncoder):
    """CLAP's audio tower on windows of 10 s: 32 tokens each, means over its bands. Shorter audio is repeated."""

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 48000)
        built = build_model(FAMILY, pretrained, hub, architecture, preprocessing)
        saved, config = built.preprocessing, built.model.config
        check_same(saved, pretrained, sampling_rate=48000, feature_size=config.num_mel_bins, padding_value=0)
        check_same(saved, pretrained, fft_window_size=1024, hop_length=480, max_length_s=10, padding="repeatpad")
        truncation = "fusion" if config.enable_fusion else "rand_trunc"
        settings = {"frequency_min": 50.0, "frequency_max": 14000.0, "truncation": truncation}
        settings |= {name: saved[name] for name in settings if name in saved}
        settings |= preprocessing or {}
        low, high = settings["frequency_min"], settings["frequency_max"]
        steps = (
            config.spec_size * config.spec_size // config.num_mel_bins
        )  # rows to which the network resizes its input
        tokens = steps // (config.patch_stride[1] * 2 ** (len(config.depths) - 1))
        rows = (torch.arange(tokens) * steps / tokens + (steps / tokens - 1) / 2) * 1000 / (steps - 1)
        front_end = ClapLogMel(config.num_mel_bins, low, high, slaney=settings["truncation"] != "fusion")
        super().__init__(
            dim,
            _Clap(front_end, built.model),
            built.model.audio_encoder.num_features,
            mode,
            lora,
            sample_rate=48000,
            window=480000,
            times=rows * 0.01,
        )
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}


class _Clap(nn.Module):
    def __init__(self, front_end: ClapLogMel, model: Any) -> None:
        super().__init__()
        self.front_end, self.model = front_end, model

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        features = self.front_end(waveform, lengths)[:, None]
        is_longer = torch.zeros(len(waveform), 1, dtype=torch.bool, device=waveform.device)
        if self.model.config.enable_fusion:
            features = features.expand(-1, 4, -1, -1)  # the whole and three crops, which are equal for one window
        return self.model(input_features=features, is_longer=is_longer).last_hidden_state.mean(dim=2).mT


class ClapLogMel(nn.Module):
    """Mel bands in dB at 48 kHz (10 ms hops) of the repeated audio: waveforms (N, n), lengths -> (N, 1 + n / 480, M).

    `slaney`: the filters of models without feature fusion.
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

    @in_float32
    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N F M"]:
        positions = torch.arange(waveform.shape[1], device=waveform.device)
        lengths = lengths.clamp(min=1)[:, None]
        repeated = waveform.gather(1, positions % lengths)
        repeated = repeated * (positions < waveform.shape[1] // lengths * lengths)  # whole repeats, then silence
        spectrum = torch.stft(repeated, 1024, 480, window=self.window, return_complex=True)
        return 10 * (spectrum.abs().square().mT @ self.filters).clamp(min=1e-10).log10()
