"""wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021) and WavLM (Chen et al. 2022) of transformers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.transformers.preprocessing import check_same
from mmattn.encoders.pretrained.wav2vec2_parts import HeardGroupNorm, UnitVariance, convolved_times
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, check_rate
from mmattn.errors import UsageError

_STEADY = {"layerdrop": 0.0, "apply_spec_augment": False}  # every layer in every step; masking is augmentation's
_PROCESSOR = ("feature_extractor",)
_SPEECH = {
    kind: Family(name, kind, f"{prefix}Config", f"{prefix}Model", fixed=_STEADY, prepared=_PROCESSOR)
    for kind, name, prefix in (
        ("wav2vec2", "wav2vec 2.0", "Wav2Vec2"),
        ("hubert", "HuBERT", "Hubert"),
        ("wavlm", "WavLM", "WavLM"),
    )
}


class SpeechEncoder(WaveformEncoder):
    """50 tokens a second, on windows of `window_s` s. `kind`: wav2vec2, hubert or wavlm."""

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        window_s: float,
        kind: str = "wav2vec2",
        pretrained: str | None = None,
        hub: bool = False,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 16000)
        if kind not in _SPEECH:
            raise UsageError(f"kind={kind}: expected one of {', '.join(_SPEECH)}")
        built = build_model(_SPEECH[kind], pretrained, hub, architecture or {}, preprocessing)
        check_same(built.preprocessing, pretrained, sampling_rate=16000, feature_size=1, padding_value=0.0)
        config = built.model.config
        settings = {"do_normalize": built.preprocessing.get("do_normalize", True), **(preprocessing or {})}
        window = round(window_s * sample_rate)
        times, field = convolved_times(window, config.conv_kernel, config.conv_stride)
        super().__init__(
            dim,
            _Speech(UnitVariance() if settings["do_normalize"] else None, built.model, field),
            config.hidden_size,
            mode,
            lora or {},
            sample_rate=16000,
            window=window,
            times=times / 16000,
            reach=field / 2 / 16000,
        )
        self.resolved = {"architecture": built.architecture, "preprocessing": settings}


class _Speech(nn.Module):
    def __init__(self, front_end: UnitVariance | None, model: Any, field: int) -> None:
        super().__init__()
        self.front_end, self.model, self.field = front_end, model, field
        first = model.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            first.layer_norm = HeardGroupNorm.in_place_of(first.layer_norm)

    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        """What the sound alone gives: what is behind its end is masked, also where a layer normalises over time."""
        read = heard.clamp(min=self.field)  # one token at least: attention to nothing has no value
        mask = torch.arange(waveform.shape[1], device=heard.device) < read[:, None]
        x = waveform if self.front_end is None else self.front_end(waveform, heard)
        first = self.model.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), HeardGroupNorm):
            first.layer_norm.places = (read - first.conv.kernel_size[0]) // first.conv.stride[0] + 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")  # WavLM's own
            return self.model(x, attention_mask=mask.long()).last_hidden_state
