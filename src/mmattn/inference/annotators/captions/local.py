"""Language models of transformers that see and hear: Qwen2.5-Omni, Qwen3-Omni, Gemma 4, and SmolVLM2, which only sees.

Prompts and media go through the model's own processor and chat template. Answers are greedy, so that the same clip has
the same caption in every batch, but for rounding.
Sources: Xu et al. 2025 (Qwen2.5-Omni, Qwen3-Omni), Marafioti et al. 2025 (SmolVLM2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.encoders.pretrained.transformers.models import quiet
from mmattn.encoders.pretrained.transformers.whole import load_processor, load_whole
from mmattn.encoders.pretrained.yamnet.yamnet import RATE
from mmattn.errors import UsageError
from mmattn.inference.annotators.base.interface import package_version
from mmattn.inference.annotators.base.model_folder import CAPTIONERS
from mmattn.inference.annotators.captions.language_model import Writer
from mmattn.inference.annotators.captions.spans import Seen
from mmattn.types import Modality

_MEDIA = ("pixel_values", "input_features")
_HOP = 160  # samples, 10 ms, from one spectrum to the next
DTYPES = {"auto": "auto", "bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32}


@dataclass(frozen=True)
class _Kind:
    """`woven`: the sound of a video has its place inside the video's, as Qwen's Omni models were trained.

    `closed`: its processor makes spectra of what it padded to the longest of a batch, so that a sound has to end in
    silence and with a whole hop to be heard there as it is alone. `same_counts`: only clips with as many frames share
    a batch, because its processor tells all the largest count.
    """

    model: str
    woven: bool = False
    closed: bool = False
    same_counts: bool = False


_KINDS = {
    "qwen2_5_omni": _Kind("Qwen2_5OmniThinkerForConditionalGeneration", woven=True),
    "qwen2_5_omni_thinker": _Kind("Qwen2_5OmniThinkerForConditionalGeneration", woven=True),
    "qwen3_omni_moe": _Kind("Qwen3OmniMoeThinkerForConditionalGeneration", woven=True, closed=True),
    "qwen3_omni_moe_thinker": _Kind("Qwen3OmniMoeThinkerForConditionalGeneration", woven=True, closed=True),
    "gemma4": _Kind("Gemma4ForConditionalGeneration"),
    "smolvlm": _Kind("SmolVLMForConditionalGeneration", same_counts=True),
}


class LocalWriter(Writer):
    """`device_map`: as accelerate has it, such as auto: over all GPUs; None: on `device`. `dtype`: of the weights."""

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
        self._kind, self.streams, self._fps, self._max_tokens = _KINDS[kind], CAPTIONERS[kind], fps, max_tokens
        spread = {} if device_map is None else {"device_map": device_map}
        self.processor = load_processor("AutoProcessor", folder)
        if getattr(self.processor, "chat_template", None) is None:
            raise UsageError(f"{folder}: has no chat_template.jinja; download it with the model's other files")
        model = load_whole(self._kind.model, folder, dtype=DTYPES[dtype], **spread)
        self.model = model if device_map is not None else model.to(device)
        self.version = f"{kind} {folder.name} ({package_version('transformers')})"

    def describe(self, spans: Sequence[Seen], prompt: str) -> list[str]:
        if self._kind.same_counts and len({_count(span) for span in spans}) > 1:
            return self._by_counts(spans, prompt)
        return self._generate([self._asked(spans[0].streams, prompt)] * len(spans), **self._media(spans))

    def _by_counts(self, spans: Sequence[Seen], prompt: str) -> list[str]:
        told: dict[int, str] = {}
        for count in {_count(span) for span in spans}:
            places = [i for i, span in enumerate(spans) if _count(span) == count]
            told.update(zip(places, self.describe([spans[i] for i in places], prompt), strict=True))
        return [told[i] for i in range(len(spans))]

    def answer(self, prompt: str) -> str:
        return self._generate([self._asked((), prompt)])[0]

    def _asked(self, streams: Sequence[Modality], prompt: str) -> str:
        """The prompt as the model's chat has it, with a place for each stream."""
        apart = [stream for stream in streams if not (stream == "audio" and self._is_woven(streams))]
        content = [*({"type": stream} for stream in apart), {"type": "text", "text": prompt}]
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def _is_woven(self, streams: Sequence[Modality]) -> bool:
        return self._kind.woven and "video" in streams and "audio" in streams

    def _media(self, spans: Sequence[Seen]) -> dict[str, Any]:
        """What the processor is given beside the texts."""
        given: dict[str, Any] = {}
        if frames := [span.frames for span in spans if span.frames is not None]:
            given["videos"] = frames
            given["videos_kwargs"] = {"do_sample_frames": False, "video_metadata": [self._about(one) for one in frames]}
            if self._kind.woven:
                given["videos_kwargs"] |= {"fps": self._fps}
        if sounds := [self._heard(span.waveform) for span in spans if span.waveform is not None]:
            given |= {"audio": sounds, "audio_kwargs": {"sampling_rate": RATE}}
            if self._is_woven(spans[0].streams):
                given |= {"load_audio_from_video": True, "audio_from_video_indices": list(range(len(spans)))}
        return given

    def _heard(self, waveform: torch.Tensor) -> Any:
        if not self._kind.closed or len(waveform) < 4 * _HOP:
            return waveform.numpy()
        closed = waveform[: len(waveform) // _HOP * _HOP].clone()
        closed[-2 * _HOP :] = 0
        return closed.numpy()

    def _about(self, frames: torch.Tensor) -> Any:
        from transformers.video_utils import VideoMetadata

        count = len(frames)
        return VideoMetadata(
            total_num_frames=count, fps=self._fps, frames_indices=list(range(count)), duration=count / self._fps
        )

    def _generate(self, texts: list[str], **media: Any) -> list[str]:
        padded = {"padding": True, "padding_side": "left"}
        with quiet():
            made = self.processor(text=texts, return_tensors="pt", text_kwargs=padded, **media).to(self.model.device)
            given = {name: self._cast(name, value) for name, value in made.items()}
            told = self.model.generate(**given, max_new_tokens=self._max_tokens, do_sample=False)
        new = told[:, given["input_ids"].shape[1] :]
        return [" ".join(text.split()) for text in self.processor.batch_decode(new, skip_special_tokens=True)]

    def _cast(self, name: str, value: Any) -> Any:
        """What is seen and heard in the precision of the weights; times stay exact."""
        return value.to(self.model.dtype) if name.startswith(_MEDIA) and value.is_floating_point() else value


def _count(span: Seen) -> int:
    return 0 if span.frames is None else len(span.frames)
