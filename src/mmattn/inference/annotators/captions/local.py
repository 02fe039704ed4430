"""Language models of transformers: Qwen2.5-Omni, Qwen3-Omni and Gemma 4 for video and audio, SmolVLM2 for video.

Prompts and media go through the model's own processor and chat template. Decoding is greedy, so a clip gets the same
caption in every batch, except for rounding.
Sources: Xu et al. 2025 (Qwen2.5-Omni, Qwen3-Omni), Marafioti et al. 2025 (SmolVLM2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.encoders.pretrained.transformers.library import quiet
from mmattn.encoders.pretrained.transformers.local_models import load_processor, load_whole
from mmattn.encoders.pretrained.yamnet.network import RATE
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import package_version
from mmattn.inference.annotators.captions.language_model import LanguageModel
from mmattn.inference.annotators.captions.requirements import CAPTIONERS
from mmattn.inference.annotators.captions.spans import CaptionSpan
from mmattn.types import Modality

_MEDIA = ("pixel_values", "input_features")
_HOP = 160  # samples, 10 ms, from one spectrum to the next
DTYPES = {"auto": "auto", "bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32}


@dataclass(frozen=True)
class _Kind:
    """`interleaved`: audio tokens lie between those of the video, as Qwen's Omni models were trained.

    `ends_silent`: the processor computes spectra after padding to the longest of a batch, so audio must end in silence
    and with a whole hop to give the same spectrum as alone. `same_counts`: only clips with equally many frames share a
    batch, because the processor uses the largest count for all.
    """

    model: str
    interleaved: bool = False
    ends_silent: bool = False
    same_counts: bool = False


_KINDS = {
    "qwen2_5_omni": _Kind("Qwen2_5OmniThinkerForConditionalGeneration", interleaved=True),
    "qwen2_5_omni_thinker": _Kind("Qwen2_5OmniThinkerForConditionalGeneration", interleaved=True),
    "qwen3_omni_moe": _Kind("Qwen3OmniMoeThinkerForConditionalGeneration", interleaved=True, ends_silent=True),
    "qwen3_omni_moe_thinker": _Kind("Qwen3OmniMoeThinkerForConditionalGeneration", interleaved=True, ends_silent=True),
    "gemma4": _Kind("Gemma4ForConditionalGeneration"),
    "smolvlm": _Kind("SmolVLMForConditionalGeneration", same_counts=True),
}


class LocalModel(LanguageModel):
    """A model in this process. `dtype`: of the weights.

    `device_map`: as in accelerate, such as auto for all GPUs; None: the model is on `device`.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        *,
        device: str,
        fps: float,
        max_tokens: int,
        dtype: str = "auto",
        device_map: str | None = None,
    ) -> None:
        """Raises UsageError for weights that cannot be loaded."""
        self._kind, self.modalities, self._fps, self._max_tokens = _KINDS[kind], CAPTIONERS[kind], fps, max_tokens
        spread = {} if device_map is None else {"device_map": device_map}
        self.processor = load_processor("AutoProcessor", folder)
        if getattr(self.processor, "chat_template", None) is None:
            raise UsageError(f"{folder}: has no chat_template.jinja; download it with the model's other files")
        model = load_whole(self._kind.model, folder, dtype=DTYPES[dtype], **spread)
        self.model = model if device_map is not None else model.to(device)
        self.version = f"{kind} {folder.name} ({package_version('transformers')})"

    def describe(self, spans: Sequence[CaptionSpan], prompt: str) -> list[str]:
        if self._kind.same_counts and len({_count(span) for span in spans}) > 1:
            return self._by_counts(spans, prompt)
        return self._generate([self._chat(spans[0].modalities, prompt)] * len(spans), **self._media(spans))

    def _by_counts(self, spans: Sequence[CaptionSpan], prompt: str) -> list[str]:
        found: dict[int, str] = {}
        for count in {_count(span) for span in spans}:
            places = [i for i, span in enumerate(spans) if _count(span) == count]
            found.update(zip(places, self.describe([spans[i] for i in places], prompt), strict=True))
        return [found[i] for i in range(len(spans))]

    def answer(self, prompt: str) -> str:
        return self._generate([self._chat((), prompt)])[0]

    def _chat(self, modalities: Sequence[Modality], prompt: str) -> str:
        """The prompt in the model's chat template, with a placeholder for each modality."""
        apart = [each for each in modalities if not (each == "audio" and self._is_interleaved(modalities))]
        content = [*({"type": each} for each in apart), {"type": "text", "text": prompt}]
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def _is_interleaved(self, modalities: Sequence[Modality]) -> bool:
        return self._kind.interleaved and {"video", "audio"} <= set(modalities)

    def _media(self, spans: Sequence[CaptionSpan]) -> dict[str, Any]:
        """The processor's arguments beside the texts."""
        given: dict[str, Any] = {}
        if frames := [span.frames for span in spans if span.frames is not None]:
            given["videos"] = frames
            metadata = [self._metadata(one) for one in frames]
            given["videos_kwargs"] = {"do_sample_frames": False, "video_metadata": metadata}
            if self._kind.interleaved:
                given["videos_kwargs"] |= {"fps": self._fps}
        if waveforms := [self._samples(span.waveform) for span in spans if span.waveform is not None]:
            given |= {"audio": waveforms, "audio_kwargs": {"sampling_rate": RATE}}
            if self._is_interleaved(spans[0].modalities):
                given |= {"load_audio_from_video": True, "audio_from_video_indices": list(range(len(spans)))}
        return given

    def _samples(self, waveform: torch.Tensor) -> Any:
        if not self._kind.ends_silent or len(waveform) < 4 * _HOP:
            return waveform.numpy()
        silenced = waveform[: len(waveform) // _HOP * _HOP].clone()
        silenced[-2 * _HOP :] = 0
        return silenced.numpy()

    def _metadata(self, frames: torch.Tensor) -> Any:
        from transformers.video_utils import VideoMetadata

        count = len(frames)
        return VideoMetadata(
            total_num_frames=count, fps=self._fps, frames_indices=list(range(count)), duration=count / self._fps
        )

    def _generate(self, texts: list[str], **media: Any) -> list[str]:
        padded = {"padding": True, "padding_side": "left"}
        with quiet():
            inputs = self.processor(text=texts, return_tensors="pt", text_kwargs=padded, **media).to(self.model.device)
            given = {name: self._cast(name, value) for name, value in inputs.items()}
            tokens = self.model.generate(**given, max_new_tokens=self._max_tokens, do_sample=False)
        new = tokens[:, given["input_ids"].shape[1] :]
        return [" ".join(text.split()) for text in self.processor.batch_decode(new, skip_special_tokens=True)]

    def _cast(self, name: str, value: Any) -> Any:
        """Frames and spectra in the precision of the weights; times stay exact."""
        return value.to(self.model.dtype) if name.startswith(_MEDIA) and value.is_floating_point() else value


def _count(span: CaptionSpan) -> int:
    return 0 if span.frames is None else len(span.frames)
