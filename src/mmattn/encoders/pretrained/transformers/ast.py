"""Networks of transformers that read spectrograms: AST, Whisper's encoder, CLAP's audio tower.

Sources: Gong et al. 2021 (AST), Radford et al. 2022 (Whisper), Wu et al. 2023 (CLAP).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.frames import Kind, check_tokens
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import check_same
from mmattn.encoders.pretrained.wav2vec2 import ClapLogMel, KaldiFilterBanks, WhisperLogMel
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, check_rate

_PROCESSOR = ("feature_extractor",)
_AST = Family("AST", "audio-spectrogram-transformer", "ASTConfig", "ASTModel", prepared=_PROCESSOR)
_WHISPER = Family(
    "Whisper",
    "whisper",
    "WhisperConfig",
    "models.whisper.modeling_whisper.WhisperEncoder",
    fixed={"encoder_layerdrop": 0.0},
    prefixes=("model.encoder.", "encoder."),
    prepared=_PROCESSOR,
)
_CLAP = Family(
    "CLAP",
    "clap_audio_model",
    "ClapAudioConfig",
    "ClapAudioModel",
    {"clap": "audio_config"},
    prefixes=("audio_model.",),
    prepared=_PROCESSOR,
)


class ASTEncoder(WaveformEncoder):
    """Patches of a Kaldi spectrogram. tokens=patch: each by itself; tokens=frame: their mean over the bands.

    `window_s`: seconds it hears at once, null = as many as it was made for (10.24). Fewer cost less: the embeddings of
    the later positions are cut off.
    """

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        tokens: Kind = "frame",
        window_s: float | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 16000)
        check_tokens(tokens)
        built = build_model(_AST, pretrained, hub, architecture or {}, preprocessing)
        saved, config = built.preprocessing, built.model.config
        check_same(saved, pretrained, sampling_rate=16000, feature_size=1, padding_value=0.0)
        check_same(saved, pretrained, num_mel_bins=config.num_mel_bins, max_length=config.max_length)
        settings = {"mean": -4.2677393, "std": 4.5689974}
        settings |= {name: saved[name] for name in settings if name in saved}
        if saved.get("do_normalize") is False:
            settings = {"mean": 0.0, "std": 0.5}  # it divides by twice as much
        settings |= preprocessing or {}
        if window_s is not None:
            _shorten_ast(built.model, max(config.patch_size, round(window_s * 100)))
        bands, steps = built.model.embeddings.get_shape(config)
        middle = torch.arange(steps) * config.time_stride + (config.patch_size - 1) / 2  # the row at a patch's middle
        times = middle * 0.01 + 0.0125
        super().__init__(
            dim,
            _Ast(KaldiFilterBanks(config.num_mel_bins, config.max_length, **settings), built.model, bands, tokens),
            config.hidden_size,
            mode,
            lora or {},
            sample_rate=16000,
            window=KaldiFilterBanks.samples(config.max_length),
            times=times.repeat_interleave(bands) if tokens == "patch" else times,
        )
        self.resolved = {
            "architecture": {**built.architecture, "max_length": config.max_length},
            "preprocessing": settings,
        }


class WhisperEncoder(WaveformEncoder):
    """Whisper's encoder: 50 tokens a second.

    `window_s`: seconds it hears at once, null = as many as it was made for (30, whatever the clip's length). Fewer cost
    less: the embeddings of the later positions are cut off.
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
        built = build_model(_WHISPER, pretrained, hub, architecture or {})
        config = built.model.config
        check_same(built.preprocessing, pretrained, sampling_rate=16000, feature_size=config.num_mel_bins, dither=0.0)
        check_same(built.preprocessing, pretrained, n_fft=400, hop_length=160, padding_value=0.0)
        if window_s is not None:
            _shorten_whisper(built.model, max(1, round(window_s * 50)))
        tokens = config.max_source_positions
        super().__init__(
            dim,
            _Whisper(WhisperLogMel(config.num_mel_bins), built.model),
            config.d_model,
            mode,
            lora or {},
            sample_rate=16000,
            window=320 * tokens,
            times=torch.arange(tokens) * 0.02,
        )
        self.resolved = {"architecture": {**built.architecture, "max_source_positions": tokens}}


class CLAPEncoder(WaveformEncoder):
    """CLAP's audio tower on windows of 10 s: 32 tokens each, the mean over its bands. Shorter sound is repeated."""

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
        built = build_model(_CLAP, pretrained, hub, architecture or {}, preprocessing)
        saved, config = built.preprocessing, built.model.config
        check_same(saved, pretrained, sampling_rate=48000, feature_size=config.num_mel_bins, padding_value=0)
        check_same(saved, pretrained, fft_window_size=1024, hop_length=480, max_length_s=10, padding="repeatpad")
        truncation = "fusion" if config.enable_fusion else "rand_trunc"
        settings = {"frequency_min": 50.0, "frequency_max": 14000.0, "truncation": truncation}
        settings |= {name: saved[name] for name in settings if name in saved}
        settings |= preprocessing or {}
        low, high = settings["frequency_min"], settings["frequency_max"]
        steps = config.spec_size * config.spec_size // config.num_mel_bins  # rows the network stretches its input to
        tokens = steps // (config.patch_stride[1] * 2 ** (len(config.depths) - 1))
        rows = (torch.arange(tokens) * steps / tokens + (steps / tokens - 1) / 2) * 1000 / (steps - 1)
        front_end = ClapLogMel(config.num_mel_bins, low, high, slaney=settings["truncation"] != "fusion")
        super().__init__(
            dim,
            _Clap(front_end, built.model),
            built.model.audio_encoder.num_features,
            mode,
            lora or {},
            sample_rate=48000,
            window=480000,
            times=rows * 0.01,
        )
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}


class _Ast(nn.Module):
    def __init__(self, front_end: KaldiFilterBanks, model: Any, bands: int, tokens: Kind) -> None:
        super().__init__()
        self.front_end, self.model, self.bands, self.tokens = front_end, model, bands, tokens

    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        read = self.model(input_values=self.front_end(waveform, heard)).last_hidden_state[:, 2:]
        patches = read.unflatten(1, (self.bands, -1))
        return patches.mean(dim=1) if self.tokens == "frame" else patches.transpose(1, 2).flatten(1, 2)


class _Whisper(nn.Module):
    def __init__(self, front_end: WhisperLogMel, model: Any) -> None:
        super().__init__()
        self.front_end, self.model = front_end, model

    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        return self.model(self.front_end(waveform)).last_hidden_state


class _Clap(nn.Module):
    def __init__(self, front_end: ClapLogMel, model: Any) -> None:
        super().__init__()
        self.front_end, self.model = front_end, model

    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        features = self.front_end(waveform, heard)[:, None]
        longer = torch.zeros(len(waveform), 1, dtype=torch.bool, device=waveform.device)
        if self.model.config.enable_fusion:
            features = features.expand(-1, 4, -1, -1)  # the whole and three parts: all the same for a window
        return self.model(input_features=features, is_longer=longer).last_hidden_state.mean(dim=2).mT


def _shorten_ast(model: Any, rows: int) -> None:
    embeddings, config = model.embeddings, model.config
    if rows >= config.max_length:
        return
    bands, steps = embeddings.get_shape(config)
    config.max_length = rows
    fewer = embeddings.get_shape(config)[1]
    places = embeddings.position_embeddings.detach()
    kept = places[:, 2:].unflatten(1, (bands, steps))[:, :, :fewer].flatten(1, 2)
    embeddings.position_embeddings = nn.Parameter(torch.cat([places[:, :2], kept], dim=1))


def _shorten_whisper(model: Any, positions: int) -> None:
    if positions >= model.config.max_source_positions:
        return
    model.config.max_source_positions = model.max_source_positions = positions
    places = model.embed_positions.weight.detach()[:positions].clone()
    model.embed_positions = nn.Embedding.from_pretrained(places, freeze=True)
