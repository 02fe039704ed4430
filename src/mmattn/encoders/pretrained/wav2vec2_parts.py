"""Parts that the wav2vec 2.0, HuBERT and WavLM of transformers and of torchaudio share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.precision import in_float32
from mmattn.errors import UsageError


class UnitVariance(nn.Module):
    """The waveform less its mean, over its spread, both of what is heard; 0 behind: (N, n) -> (N, n)."""

    @in_float32
    def forward(self, waveform: Float[Tensor, "N n"], heard: Int[Tensor, " N"]) -> Float[Tensor, "N n"]:
        real = torch.arange(waveform.shape[1], device=waveform.device) < heard[:, None]
        count = heard.clamp(min=1)[:, None]
        mean = (waveform * real).sum(dim=1, keepdim=True) / count
        centred = (waveform - mean) * real
        return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()


class HeardGroupNorm(nn.GroupNorm):
    """Group norm of one channel a group, over the first `places` (N,) in time only; 0 behind. None: over all."""

    places: Tensor | None = None

    @classmethod
    def in_place_of(cls, norm: nn.GroupNorm) -> HeardGroupNorm:
        """With the same weights, under the same names."""
        made = cls(norm.num_groups, norm.num_channels, norm.eps)
        made.weight, made.bias = norm.weight, norm.bias
        return made

    def forward(self, input: Float[Tensor, "N C L"]) -> Float[Tensor, "N C L"]:
        if self.places is None:
            return super().forward(input)
        real = torch.arange(input.shape[2], device=input.device) < self.places[:, None, None]
        count = self.places.clamp(min=1)[:, None, None]
        x = input.float()
        x = (x - (x * real).sum(dim=2, keepdim=True) / count) * real
        x = x * (x.square().sum(dim=2, keepdim=True) / count + self.eps).rsqrt()
        return ((x * self.weight[:, None] + self.bias[:, None]) * real).to(input.dtype)


def convolved_times(samples: int, kernels: Sequence[int], strides: Sequence[int]) -> tuple[Float[Tensor, " L"], int]:
    """Of a chain of convolutions without padding: the middle of what each output reads, and how much one reads.

    Both in samples. Raises UsageError when there are too few for one output.
    """
    first, step, length = 0.0, 1, samples
    for kernel, stride in zip(kernels, strides, strict=True):
        first += step * (kernel - 1) / 2
        step *= stride
        length = (length - kernel) // stride + 1
    if length < 1:
        raise UsageError(f"window_s: {samples} samples are too few for this encoder")
    return first + step * torch.arange(length), round(2 * first + 1)
