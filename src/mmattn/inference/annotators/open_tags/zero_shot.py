"""Models that compare sentences with pictures, sounds or both: CLIP, SigLIP, SigLIP 2, CLAP and PE-AV.

Each gives a score in [0, 1] for each tag by its own scale and bias, as transformers' own processor and model would.
Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Wu et al. 2023 (CLAP),
Vyas et al. 2025 (PE-AV).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from mmattn.encoders.pretrained.transformers.local_models import load_processor, load_whole
from mmattn.encoders.pretrained.transformers.text_encoder import TextEncoder
from mmattn.types import Modality


@dataclass(frozen=True)
class Step:
    """What is seen and heard in one step of a file; None: it has no picture, or no sound, then."""

    frames: UInt8[Tensor, "T 3 H W"] | None
    waveform: Float[Tensor, " N"] | None

    @property
    def streams(self) -> tuple[Modality, ...]:
        return (*(("video",) if self.frames is not None else ()), *(("audio",) if self.waveform is not None else ()))


class ZeroShot(ABC):
    """`streams`: what it can use. `sample_rate`: of the sound it hears, Hz. `frames`: of a step, at most."""

    streams: tuple[Modality, ...]
    sample_rate = 0
    frames = 1

    @abstractmethod
    def ask(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        """The sentences that are compared from now on: those of each tag, whose embeddings are averaged.

        `neutral`: those that name no tag, for models that know no "none of these".
        """

    @abstractmethod
    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        """In [0, 1]. All steps have the same streams, which the model can use."""


class Contrast(ZeroShot):
    """With a bias (SigLIP) a score is the chance that the sentence fits, as the model was trained: sigmoid(logit).

    Without one (CLIP, CLAP) logits only compare: it is the chance that the tag's sentence fits better than the neutral
    one, the softmax over the two, so that a tag's score does not depend on which other tags are asked for.
    """

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self.model = load_whole(_CLASSES[kind], folder)
        self._scale = self.model.logit_scale_a if kind == "clap" else self.model.logit_scale
        self._bias = getattr(self.model, "logit_bias", None)
        self.model.text_model = None  # sentences are read by TextEncoder
        self.model.to(device)

    def ask(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        encoder, count = TextEncoder(str(self._folder), device=self._device), len(neutral)
        found = encoder([text for each in (*prompts, neutral) for text in each])
        self._texts = normalize(found.unflatten(0, (-1, count)).mean(dim=1), dim=1).to(self._device)

    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        logits = self._embed(steps) @ self._texts.T * self._scale.exp()
        tags, neutral = logits[:, :-1], logits[:, -1:]
        return torch.sigmoid(tags - neutral if self._bias is None else tags + self._bias).float().cpu()

    @abstractmethod
    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        """Of length 1."""


class Pictures(Contrast):
    """CLIP, SigLIP or SigLIP 2 on one frame a step."""

    streams = ("video",)

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        super().__init__(kind, folder, device)
        self._processor = load_processor("AutoImageProcessor", folder)

    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        frames = [step.frames[0] for step in steps if step.frames is not None]
        given = self._processor(images=frames, return_tensors="pt").to(self._device)
        return normalize(_pooled(self.model.get_image_features(**given)), dim=1)


class Sounds(Contrast):
    """CLAP. One step at a time: of several, its processor draws one to be taken for longer than it is."""

    streams = ("audio",)

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        super().__init__(kind, folder, device)
        self._processor = load_processor("ClapFeatureExtractor", folder)
        self.sample_rate = int(self._processor.sampling_rate)

    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        heard = [self._processor(_array(step), sampling_rate=self.sample_rate, return_tensors="pt") for step in steps]
        rows = [_pooled(self.model.get_audio_features(**each.to(self._device))) for each in heard]
        return normalize(torch.cat(rows), dim=1)


class Both(ZeroShot):
    """PE-AV: picture and sound together by its joint tower, or one of them alone by that one's own."""

    streams = ("video", "audio")

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        self.model = load_whole(_CLASSES[kind], folder).to(device)
        self._videos = load_processor("PeVideoVideoProcessor", folder)
        self._audio = load_processor("PeAudioFeatureExtractor", folder)
        self._tokenizer = load_processor("AutoTokenizer", folder)
        self._device, self.sample_rate = device, int(self._audio.sampling_rate)
        self.frames = self._videos.num_frames or 16

    def ask(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        self._texts = torch.stack([torch.cat([self._read(text) for text in each]) for each in prompts])

    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        return torch.cat([self._score(step) for step in steps]).float().cpu()

    @torch.inference_mode()
    def _read(self, text: str) -> Float[Tensor, "1 C"]:
        """One sentence at a time, so that nothing is padded."""
        given = self._tokenizer(text, return_tensors="pt").to(self._device)
        told = self.model.text_model(given["input_ids"], given["attention_mask"], output_hidden_states=True)
        return told.hidden_states[-1][:, 0]

    def _score(self, step: Step) -> Float[Tensor, "1 K"]:
        model, given = self.model, {}
        if step.frames is not None:
            given |= self._videos(videos=[step.frames], do_sample_frames=False, return_tensors="pt")
        if step.waveform is not None:
            given |= self._audio(_array(step), sampling_rate=self.sample_rate, return_tensors="pt")
        given = {name: value.to(self._device) for name, value in given.items()}
        if step.waveform is None:
            own = model.video_model
            seen, head = own.video_head(own.video_encoder(**given).pooler_output), own.text_video_head
            scale, bias = own.text_video_logit_scale, own.text_video_logit_bias
        elif step.frames is None:
            own = model.audio_model
            seen, head = own.audio_head(own.audio_encoder(**given).pooler_output), own.text_audio_head
            scale, bias = own.text_audio_logit_scale, own.text_audio_logit_bias
        else:
            seen, head = model.get_audio_video_embeds(**given).audio_video_embeds, model.text_audio_video_head
            scale, bias = model.text_audio_video_logit_scale, model.text_audio_video_logit_bias
        return torch.sigmoid(seen @ head(self._texts).mean(dim=1).T * scale + bias)


_CLASSES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "clap": "ClapModel",
    "pe_audio_video": "PeAudioVideoModel",
}


def load_zero_shot(kind: str, folder: Path, device: str) -> ZeroShot:
    """`kind`: the model_type of the folder's config. Raises UsageError."""
    make: Any = {"clap": Sounds, "pe_audio_video": Both}.get(kind, Pictures)
    return make(kind, folder, device)


def _array(step: Step) -> Any:
    assert step.waveform is not None
    return step.waveform.cpu().numpy()


def _pooled(told: Any) -> Tensor:
    return told if isinstance(told, Tensor) else told.pooler_output
