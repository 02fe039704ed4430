"""Models with one tower for texts and one for images or audio: CLIP, SigLIP, SigLIP 2 and CLAP.

Scores use the model's own scale and bias, and equal those of its library (transformers).
Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP), Tschannen et al. 2025 (SigLIP 2), Wu et al. 2023 (CLAP).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from mmattn.encoders.pretrained.transformers.local_models import load_processor, load_whole
from mmattn.encoders.pretrained.transformers.text_encoder import TextEncoder
from mmattn.inference.annotators.open_tags.zero_shot import Step, ZeroShot

_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model", "clap": "ClapModel"}


class ContrastiveZeroShot(ZeroShot):
    """Scores from the cosine of two embeddings.

    With a bias (SigLIP) a score is the probability that the sentence fits, as in training: sigmoid(logit). Without one
    (CLIP, CLAP) logits can only be compared: a score is the softmax over the tag's sentence and the neutral one, so
    that it does not depend on the other tags.
    """

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self.model = load_whole(_CLASSES[kind], folder)
        self._scale = self.model.logit_scale_a if kind == "clap" else self.model.logit_scale
        self._bias = getattr(self.model, "logit_bias", None)
        self.model.text_model = None  # TextEncoder embeds the sentences
        self.model.to(device)

    def set_prompts(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        encoder, count = TextEncoder(str(self._folder), device=self._device), len(neutral)
        found = encoder([text for each in (*prompts, neutral) for text in each])
        self._texts = normalize(found.unflatten(0, (-1, count)).mean(dim=1), dim=1).to(self._device)

    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        logits = self._embed(steps) @ self._texts.T * self._scale.exp()
        tags, neutral = logits[:, :-1], logits[:, -1:]
        return torch.sigmoid(tags - neutral if self._bias is None else tags + self._bias).float().cpu()

    @abstractmethod
    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        """Embeddings of length 1."""


class ImageText(ContrastiveZeroShot):
    """CLIP, SigLIP or SigLIP 2, on one frame of a step."""

    modalities = ("video",)

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        super().__init__(kind, folder, device)
        self._processor = load_processor("AutoImageProcessor", folder)

    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        frames = [step.frames[0] for step in steps if step.frames is not None]
        inputs = self._processor(images=frames, return_tensors="pt").to(self._device)
        return normalize(_pooled(self.model.get_image_features(**inputs)), dim=1)


class AudioText(ContrastiveZeroShot):
    """CLAP, on one step at a time: for several, its processor marks a random one as longer than it is."""

    modalities = ("audio",)

    def __init__(self, kind: str, folder: Path, device: str) -> None:
        super().__init__(kind, folder, device)
        self._processor = load_processor("ClapFeatureExtractor", folder)
        self.sample_rate = int(self._processor.sampling_rate)

    def _embed(self, steps: Sequence[Step]) -> Float[Tensor, "S E"]:
        inputs = [self._processor(step.samples, sampling_rate=self.sample_rate, return_tensors="pt") for step in steps]
        rows = [_pooled(self.model.get_audio_features(**each.to(self._device))) for each in inputs]
        return normalize(torch.cat(rows), dim=1)


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output
