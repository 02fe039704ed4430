"""torchaudio's wav2vec 2.0, HuBERT and WavLM.

`name` is one of torchaudio's builders (wav2vec2_base, hubert_large, wavlm_base, wav2vec2_xlsr_300m), or wav2vec2 or
wavlm, which are built with the arguments in `architecture`. `pretrained` is the weights file of the pipeline bundle of
that architecture; with hub=true the bundle's name (WAV2VEC2_BASE).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.adapt import Mode
from mmattn.encoders.pretrained.wav2vec2_parts import UnitVariance, convolution_times, mask_first_norm, set_lengths
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, by_length, check_rate
from mmattn.encoders.pretrained.weights import load_into, locate, read_tensors
from mmattn.errors import UsageError

_OWN = {"wav2vec2": "wav2vec2_model", "wavlm": "wavlm_model"}
_NAMES = (
    *("wav2vec2_base", "wav2vec2_large", "wav2vec2_large_lv60k"),
    *("wav2vec2_xlsr_300m", "wav2vec2_xlsr_1b", "wav2vec2_xlsr_2b"),
    *("hubert_base", "hubert_large", "hubert_xlarge", "wavlm_base", "wavlm_large"),
)
_UNNORMALIZED = ("wav2vec2_base", "wav2vec2_large", "hubert_base", "wavlm_base")  # bundles trained on plain waveforms


class TorchaudioEncoder(WaveformEncoder):
    """50 tokens a second, on windows of `window_s` s.

    `normalize`: zero mean and unit variance for each window; None: as the bundle of that name was trained.
    """

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        window_s: float,
        name: str,
        pretrained: str | None = None,
        hub: bool = False,
        normalize: bool | None = None,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 16000)
        model = _build(name, architecture or {})
        if pretrained is not None:
            _load(model, name, pretrained, hub)
        normalizes = name not in _UNNORMALIZED if normalize is None else normalize
        window = round(window_s * sample_rate)
        layers = [layer.conv for layer in model.feature_extractor.conv_layers]
        kernels, strides = [layer.kernel_size[0] for layer in layers], [layer.stride[0] for layer in layers]
        times, field = convolution_times(window, kernels, strides)
        super().__init__(
            dim,
            _Net(UnitVariance() if normalizes else None, model, field, len(times)),
            model.encoder.feature_projection.projection.out_features,
            mode,
            lora,
            sample_rate=16000,
            window=window,
            times=times / 16000,
            reach=field / 2 / 16000,
        )


class _Net(nn.Module):
    def __init__(self, front_end: UnitVariance | None, model: Any, field: int, tokens: int) -> None:
        super().__init__()
        model.aux = None  # the letters of bundles for speech recognition
        self.front_end, self.model, self.field, self.tokens = front_end, model, field, tokens
        # torchaudio's WavLM ignores lengths and would attend to the padding, so it gets none.
        self.ignores_lengths = not hasattr(model.encoder.transformer.layers[0].attention, "q_proj")
        mask_first_norm(model)

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        x = waveform if self.front_end is None else self.front_end(waveform, lengths)
        lengths = lengths.clamp(min=self.field)  # one token at least: attention to nothing has no value
        first = self.model.feature_extractor.conv_layers[0]
        set_lengths(self.model, lengths, first.kernel_size, first.stride)
        if not self.ignores_lengths:
            return self.model(x, lengths)[0]
        return by_length(lambda part: self.model(part)[0], x, lengths, self.tokens)


def _build(name: str, architecture: Mapping[str, Any]) -> Any:
    import torchaudio.models

    if name in _OWN:
        return getattr(torchaudio.models, _OWN[name])(**{"aux_num_out": None, **architecture})
    if name not in _NAMES:
        raise UsageError(f"name={name}: expected one of {', '.join((*_OWN, *_NAMES))}")
    return getattr(torchaudio.models, name)(**{"encoder_layer_drop": 0.0, **architecture})


def _load(model: nn.Module, name: str, pretrained: str, hub: bool) -> None:
    if hub and not Path(pretrained).exists():
        tensors, source = _download(pretrained), Path(pretrained)
    else:
        source = locate(pretrained, False, f"the weights of torchaudio's {name} bundle")
        tensors = read_tensors(source)
    load_into(model, tensors, source, dropped=("aux.", "mask_generator.", "logit_generator."))


def _download(bundle: str) -> dict[str, Tensor]:
    import torchaudio.pipelines

    found = getattr(torchaudio.pipelines, bundle, None)
    if not isinstance(found, torchaudio.pipelines.Wav2Vec2Bundle):
        raise UsageError(f"pretrained={bundle}: torchaudio has no such Wav2Vec2Bundle")
    try:
        model = found.get_model(dl_kwargs={"progress": False, "weights_only": True})
    except OSError as error:
        raise UsageError(
            f"pretrained={bundle}: cannot be downloaded ({error}); download the bundle's weights and set "
            "pretrained= to their path"
        ) from None
    inner = getattr(model, "model", model)  # bundles that normalise their input wrap the model
    return {key: tensor.detach() for key, tensor in inner.state_dict().items()}
