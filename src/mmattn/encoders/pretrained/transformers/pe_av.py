"""The audio tower and the video tower of PE-AV (Vyas et al. 2025) of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.encoders.pretrained.tokens import Projection
from mmattn.encoders.pretrained.transformers.build import Family, build_model
from mmattn.encoders.pretrained.transformers.image_tower import BILINEAR, HALF, Tower
from mmattn.encoders.pretrained.transformers.preprocessing import FEATURE_EXTRACTOR, VIDEO_PROCESSOR, check_same
from mmattn.encoders.pretrained.waveforms import WaveformEncoder, by_length, check_rate
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.types import Batch, Tokens

AUDIO = Family(
    "PE-AV audio",
    "pe_audio_encoder",
    "PeAudioEncoderConfig",
    "PeAudioEncoder",
    {"pe_audio": "audio_config", "pe_audio_video": "audio_video_config.audio_config"},
    prefixes=("audio_model.audio_encoder.", "audio_encoder."),
    processor=(FEATURE_EXTRACTOR,),
)
VIDEO = Tower(
    Family(
        "PE-AV video",
        "pe_video_encoder",
        "PeVideoEncoderConfig",
        "PeVideoEncoder",
        {"pe_video": "video_config", "pe_audio_video": "audio_video_config.video_config"},
        prefixes=("video_model.video_encoder.", "video_encoder."),
        processor=(VIDEO_PROCESSOR,),
    ),
    {**HALF, "resample": BILINEAR},
)


class PEAudioEncoder(WaveformEncoder):
    """A codec's encoder at 48 kHz, which is never trained, then attention. 25 tokens a second."""

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        window_s: float,
        pretrained: str | None = None,
        hub: bool = False,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        check_rate(sample_rate, 48000)
        built = build_model(AUDIO, pretrained, hub, architecture)
        hop = built.model.config.dac_config.hop_length
        check_same(built.preprocessing, pretrained, sampling_rate=48000, feature_size=1, hop_length=hop)
        tokens = -(-round(window_s * sample_rate) // hop)
        super().__init__(
            dim,
            _PEAudio(built.model),
            built.model.config.hidden_size,
            mode,
            lora,
            sample_rate=48000,
            window=tokens * hop,
            times=(torch.arange(tokens) + 0.5) * hop / 48000,
            example=2 * hop,
        )
        self.resolved = {"architecture": built.architecture}


class _PEAudio(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N L C"]:
        """The last hop is padded by reflection, as in the library's processor."""
        hop = self.model.config.dac_config.hop_length
        lengths = lengths.clamp(min=1)  # attention to nothing has no value
        positions = torch.arange(waveform.shape[1], device=lengths.device)
        padded = waveform.gather(1, reflect(positions[None], lengths[:, None]))
        whole = -(-lengths // hop) * hop
        return by_length(self._run, padded, whole, waveform.shape[1] // hop)

    def _run(self, waveform: Float[Tensor, "N n"]) -> Float[Tensor, "N L C"]:
        mask = torch.ones_like(waveform, dtype=torch.bool)
        return self.model(waveform[:, None], padding_mask=mask).last_hidden_state


class PEVideoEncoder(VisualEncoder):
    """An image tower on each frame, then attention over all frames. One token a frame.

    If the model's processor samples `num_frames` (16) of a clip, so many are taken, evenly from the first to the last.
    """

    def __init__(
        self,
        dim: int,
        mode: Mode,
        pretrained: str | None = None,
        hub: bool = False,
        lora: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        built = VIDEO.build(pretrained, hub, architecture, preprocessing)
        self.frame_format = built.frames
        self.num_frames: int | None = built.settings["num_frames"]
        example = torch.zeros(1, 2, 3, *built.frames.size, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool)
        self.backbone = Adapted(_PEVideo(built.pixels, built.model), mode, lora, example)
        self.project = Projection(built.model.config.hidden_size, dim)
        self.resolved = built.resolved

    def forward(self, batch: Batch) -> Tokens:
        frames, keep, times = batch.frames, batch.frame_keep, batch.frame_times
        if self.num_frames is not None:
            chosen = sample_evenly(keep, self.num_frames)
            rows = torch.arange(len(batch), device=keep.device)[:, None]
            frames, keep, times = frames[rows, chosen], keep[rows, chosen], times[rows, chosen]
        values = self.project(self.backbone(frames, keep, keep=keep.any(dim=1)))
        return Tokens(zero_padding(values, keep), keep, times, "frame_keep" in batch.full)


class _PEVideo(nn.Module):
    def __init__(self, pixels: Pixels, model: Any) -> None:
        super().__init__()
        self.pixels, self.model = pixels, model

    def forward(self, frames: UInt8[Tensor, "N T 3 H W"], keep: Bool[Tensor, "N T"]) -> Float[Tensor, "N T C"]:
        x = self.pixels(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        keep = keep | ~keep.any(dim=1, keepdim=True)  # attention to nothing has no value
        return self.model(pixel_values_videos=x, padding_mask_videos=keep).last_hidden_state


def reflect(positions: Int[Tensor, "N n"], lengths: Int[Tensor, "N 1"]) -> Int[Tensor, "N n"]:
    """The index of the sample at each position when a signal of this length is extended by reflection."""
    period = (2 * (lengths - 1)).clamp(min=1)
    turned = positions % period
    return torch.where(turned < lengths, turned, period - turned)


def sample_evenly(keep: Bool[Tensor, "B T"], count: int) -> Int[Tensor, "B count"]:
    """`count` of the real frames of each clip, from the first to the last, as evenly as whole frames allow."""
    last = (keep.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    return torch.arange(count, device=keep.device) * last // max(1, count - 1)
