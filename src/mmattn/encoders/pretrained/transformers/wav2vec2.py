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
from mmattn.encoders.pretrained.transformers.preprocessing import FEATURE_EXTRACTOR, check_same
from mmattn.encoders.pretrained.wav2vec2_parts import (
    MaskedBatchNorm,
    UnitVariance,
    convolution_times,
    mask_first_norm,
    set_lengths,
)
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, check_rate
from mmattn.errors import UsageError

_FIXED = {"layerdrop": 0.0, "apply_spec_augment": False}  # no random layers; masking belongs to data.augment
FAMILIES = {
    kind: Family(name, kind, f"{prefix}Config", f"{prefix}Model", fixed=_FIXED, processor=(FEATURE_EXTRACTOR,))
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
        if kind not in FAMILIES:
            raise UsageError(f"kind={kind}: expected one of {', '.join(FAMILIES)}")
        built = build_model(FAMILIES[kind], pretrained, hub, architecture, preprocessing)
        check_same(built.preprocessing, pretrained, sampling_rate=16000, feature_size=1, padding_value=0.0)
        config = built.model.config
        if getattr(config, "add_adapter", False):
            raise UsageError(
                f"{pretrained or 'architecture'}: add_adapter=true is not supported, because these last layers make "
                "fewer tokens; set it to false in the model's config.json to use the layers before them"
            )
        settings = {"do_normalize": built.preprocessing.get("do_normalize", True), **(preprocessing or {})}
        window = round(window_s * sample_rate)
        times, field = convolution_times(window, config.conv_kernel, config.conv_stride)
        super().__init__(
            dim,
            _Speech(UnitVariance() if settings["do_normalize"] else None, built.model, field),
            config.hidden_size,
            mode,
            lora,
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
        mask_first_norm(model)
        positions = model.encoder.pos_conv_embed
        if norm := getattr(positions, "batch_norm", None):  # of some HuBERTs
            positions.batch_norm = MaskedBatchNorm.replacing(norm)

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        """Padding is masked, also for a layer that normalises over time."""
        lengths = lengths.clamp(min=self.field)  # one token at least: attention to nothing has no value
        mask = torch.arange(waveform.shape[1], device=lengths.device) < lengths[:, None]
        x = waveform if self.front_end is None else self.front_end(waveform, lengths)
        first = self.model.feature_extractor.conv_layers[0].conv
        set_lengths(self.model, lengths, first.kernel_size[0], first.stride[0])
        if isinstance(norm := getattr(self.model.encoder.pos_conv_embed, "batch_norm", None), MaskedBatchNorm):
            norm.lengths = self.model._get_feat_extract_output_lengths(lengths)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")  # of WavLM
            return self.model(x, attention_mask=mask.long()).last_hidden_state
