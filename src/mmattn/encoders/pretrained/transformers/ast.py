"""The Audio Spectrogram Transformer (Gong et al. 2021) of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.precision import in_float32
from mmattn.encoders.pretrained.tokens import Kind, check_tokens
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import FEATURE_EXTRACTOR, check_same
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, check_rate

FAMILY = Family("AST", "audio-spectrogram-transformer", "ASTConfig", "ASTModel", processor=(FEATURE_EXTRACTOR,))


class ASTEncoder(WaveformEncoder):
    """Patches of a Kaldi spectrogram. tokens=patch: a token for each; tokens=frame: their mean over the bands.

    `window_s`: the length of a window; None: that of the model (10.24 s). Shorter windows cost less: the later position
    embeddings are cut off.
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
        built = build_model(FAMILY, pretrained, hub, architecture, preprocessing)
        config = built.model.config
        settings = _normalisation(built.preprocessing, pretrained, config) | dict(preprocessing or {})
        if window_s is not None:
            _shorten(built.model, max(config.patch_size, round(window_s * 100)))
        bands, steps = built.model.embeddings.get_shape(config)
        middle = torch.arange(steps) * config.time_stride + (config.patch_size - 1) / 2  # the row in a patch's centre
        times = middle * 0.01 + 0.0125
        super().__init__(
            dim,
            _AST(KaldiFilterBanks(config.num_mel_bins, config.max_length, **settings), built.model, bands, tokens),
            config.hidden_size,
            mode,
            lora,
            sample_rate=16000,
            window=KaldiFilterBanks.samples(config.max_length),
            times=times.repeat_interleave(bands) if tokens == "patch" else times,
        )
        architecture = {**built.architecture, "max_length": config.max_length}
        self.resolved = {"architecture": architecture, "preprocessing": settings}


def _normalisation(saved: Mapping[str, Any], pretrained: str | None, config: Any) -> dict[str, float]:
    """Mean and std of the filter banks. Raises UsageError if the folder needs another front end."""
    check_same(saved, pretrained, sampling_rate=16000, feature_size=1, padding_value=0.0)
    check_same(saved, pretrained, num_mel_bins=config.num_mel_bins, max_length=config.max_length)
    if saved.get("do_normalize") is False:
        return {"mean": 0.0, "std": 0.5}  # the front end divides by 2 std
    return {"mean": saved.get("mean", -4.2677393), "std": saved.get("std", 4.5689974)}


class _AST(nn.Module):
    def __init__(self, front_end: KaldiFilterBanks, model: Any, bands: int, tokens: Kind) -> None:
        super().__init__()
        self.front_end, self.model, self.bands, self.tokens = front_end, model, bands, tokens

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        output = self.model(input_values=self.front_end(waveform, lengths)).last_hidden_state[:, 2:]
        patches = output.unflatten(1, (self.bands, -1))
        return patches.mean(dim=1) if self.tokens == "frame" else patches.transpose(1, 2).flatten(1, 2)


def _shorten(model: Any, rows: int) -> None:
    """Cut the position embeddings to so many rows of the spectrogram."""
    embeddings, config = model.embeddings, model.config
    if rows >= config.max_length:
        return
    bands, steps = embeddings.get_shape(config)
    config.max_length = rows
    fewer = embeddings.get_shape(config)[1]
    positions = embeddings.position_embeddings.detach()
    kept = positions[:, 2:].unflatten(1, (bands, steps))[:, :, :fewer].flatten(1, 2)
    embeddings.position_embeddings = nn.Parameter(torch.cat([positions[:, :2], kept], dim=1))


class KaldiFilterBanks(nn.Module):
    """Kaldi's log filter banks at 16 kHz (25 ms Hann windows, 10 ms hops), (x - mean) / (2 std), as AST was trained.

    Waveforms (N, n), lengths (N,) -> (N, length, mels); rows after the end of the audio are 0 before the scaling.
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
        """The number of samples for this many rows."""
        return 400 + 160 * (rows - 1)

    @in_float32
    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N F M"]:
        frames = waveform.unfold(1, 400, 160)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = (frames - 0.97 * previous) * self.window
        power = torch.fft.rfft(frames, 512).abs().square()
        bands = (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
        rows = (1 + (lengths - 400) // 160).clamp(min=0)
        bands = bands * (torch.arange(bands.shape[1], device=bands.device) < rows[:, None])[..., None]
        bands = nn.functional.pad(bands, (0, 0, 0, self.length - bands.shape[1]))
        return (bands - self.mean) / (2 * self.std)
