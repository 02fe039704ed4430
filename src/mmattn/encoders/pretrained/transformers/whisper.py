"""The encoder of Whisper (Radford et al. 2022) of transformers."""

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
    "Whisper",
    "whisper",
    "WhisperConfig",
    "models.whisper.modeling_whisper.WhisperEncoder",
    fixed={"encoder_layerdrop": 0.0},
    prefixes=("model.encoder.", "encoder."),
    processor=(FEATURE_EXTRACTOR,),
)


class WhisperEncoder(WaveformEncoder):
    """Whisper's encoder: 50 tokens a second.

    `window_s`: the length of a window; None: that of the model (30 s, also for shorter clips). Shorter windows cost
    less: the later position embeddings are cut off.
    """

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        window_s: float | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 16000)
        built = build_model(FAMILY, pretrained, hub, architecture)
        config = built.model.config
        check_same(built.preprocessing, pretrained, sampling_rate=16000, feature_size=config.num_mel_bins, dither=0.0)
        check_same(built.preprocessing, pretrained, n_fft=400, hop_length=160, padding_value=0.0)
        if window_s is not None:
            _shorten(built.model, max(1, round(window_s * 50)))
        tokens = config.max_source_positions
        super().__init__(
            dim,
            _Whisper(WhisperLogMel(config.num_mel_bins), built.model),
            config.d_model,
            mode,
            lora,
            sample_rate=16000,
            window=320 * tokens,
            times=torch.arange(tokens) * 0.02,
        )
        self.resolved = {"architecture": {**built.architecture, "max_source_positions": tokens}}


class _Whisper(nn.Module):
    def __init__(self, front_end: WhisperLogMel, model: Any) -> None:
        super().__init__()
        self.front_end, self.model = front_end, model

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        return self.model(self.front_end(waveform)).last_hidden_state


def _shorten(model: Any, positions: int) -> None:
    if positions >= model.config.max_source_positions:
        return
    model.config.max_source_positions = model.max_source_positions = positions
    kept = model.embed_positions.weight.detach()[:positions].clone()
    model.embed_positions = nn.Embedding.from_pretrained(kept, freeze=True)


class WhisperLogMel(nn.Module):
    """Log-mel bands at 16 kHz, the loudest 80 dB of each window, as (log10 + 4) / 4: (N, n) -> (N, M, n / 160)."""

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        filters = melscale_fbanks(201, 0.0, 8000.0, mels, 16000, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(400), persistent=False)

    @in_float32
    def forward(self, waveform: Float[Tensor, "N n"]) -> Float[Tensor, "N M F"]:
        spectrum = torch.stft(waveform, 400, 160, window=self.window, return_complex=True)[..., :-1]
        bands = (self.filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
