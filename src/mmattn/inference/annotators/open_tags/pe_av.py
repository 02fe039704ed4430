"""PE-AV (Vyas et al. 2025): video and audio by its joint tower, or one of them by that modality's own tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.encoders.pretrained.transformers.local_models import load_processor, load_whole
from mmattn.inference.annotators.open_tags.zero_shot import Step, ZeroShot


class PEAudioVideo(ZeroShot):
    """Scores equal those of its library (transformers): sigmoid(cosine x scale + bias)."""

    modalities = ("video", "audio")

    def __init__(self, folder: Path, device: str) -> None:
        self.model = load_whole("PeAudioVideoModel", folder).to(device)
        self._video = load_processor("PeVideoVideoProcessor", folder)
        self._audio = load_processor("PeAudioFeatureExtractor", folder)
        self._tokenizer = load_processor("AutoTokenizer", folder)
        self._device, self.sample_rate = device, int(self._audio.sampling_rate)
        self.frames = self._video.num_frames or 16

    def set_prompts(self, prompts: Sequence[Sequence[str]], neutral: Sequence[str]) -> None:
        self._texts = torch.stack([torch.cat([self._embed(text) for text in each]) for each in prompts])

    def scores(self, steps: Sequence[Step]) -> Float[Tensor, "S K"]:
        return torch.cat([self._score(step) for step in steps]).float().cpu()

    @torch.inference_mode()
    def _embed(self, text: str) -> Float[Tensor, "1 C"]:
        """The embedding of one sentence, alone so that nothing is padded."""
        inputs = self._tokenizer(text, return_tensors="pt").to(self._device)
        output = self.model.text_model(inputs["input_ids"], inputs["attention_mask"], output_hidden_states=True)
        return output.hidden_states[-1][:, 0]

    def _score(self, step: Step) -> Float[Tensor, "1 K"]:
        model, inputs = self.model, {}
        if step.frames is not None:
            inputs |= self._video(videos=[step.frames], do_sample_frames=False, return_tensors="pt")
        if step.waveform is not None:
            inputs |= self._audio(step.samples, sampling_rate=self.sample_rate, return_tensors="pt")
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        if step.waveform is None:
            own = model.video_model
            embedded, head = own.video_head(own.video_encoder(**inputs).pooler_output), own.text_video_head
            scale, bias = own.text_video_logit_scale, own.text_video_logit_bias
        elif step.frames is None:
            own = model.audio_model
            embedded, head = own.audio_head(own.audio_encoder(**inputs).pooler_output), own.text_audio_head
            scale, bias = own.text_audio_logit_scale, own.text_audio_logit_bias
        else:
            embedded, head = model.get_audio_video_embeds(**inputs).audio_video_embeds, model.text_audio_video_head
            scale, bias = model.text_audio_video_logit_scale, model.text_audio_video_logit_bias
        return torch.sigmoid(embedded @ head(self._texts).mean(dim=1).T * scale + bias)
