"""What the wav2vec 2.0, HuBERT and WavLM of transformers and of torchaudio share.

`lengths` (N,): the samples of each waveform up to the end of its audio; the rest is padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.pretrained.precision import in_float32
from mmattn.errors import UsageError


class UnitVariance(nn.Module):
    """Waveforms (N, n) with zero mean and unit variance over their `lengths`, 0 after them."""

    @in_float32
    def forward(self, waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"]) -> Float[Tensor, "N n"]:
        keep = torch.arange(waveform.shape[1], device=waveform.device) < lengths[:, None]
        count = lengths.clamp(min=1)[:, None]
        mean = (waveform * keep).sum(dim=1, keepdim=True) / count
        centred = (waveform - mean) * keep
        return centred / (centred.square().sum(dim=1, keepdim=True) / count + 1e-7).sqrt()


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm of one channel a group over the first `lengths` (N,) steps in time; 0 after them. None: over all."""

    lengths: Tensor | None = None

    @classmethod
    def replacing(cls, norm: nn.GroupNorm) -> MaskedGroupNorm:
        """With the parameters of `norm`, under the same names."""
        own = cls(norm.num_groups, norm.num_channels, norm.eps)
        own.weight, own.bias = norm.weight, norm.bias
        return own

    def forward(self, input: Float[Tensor, "N C L"]) -> Float[Tensor, "N C L"]:
        if self.lengths is None:
            return super().forward(input)
        keep = torch.arange(input.shape[2], device=input.device) < self.lengths[:, None, None]
        count = self.lengths.clamp(min=1)[:, None, None]
        x = input.float()
        x = (x - (x * keep).sum(dim=2, keepdim=True) / count) * keep
        x = x * (x.square().sum(dim=2, keepdim=True) / count + self.eps).rsqrt()
        return ((x * self.weight[:, None] + self.bias[:, None]) * keep).to(input.dtype)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the first `lengths` (N,) steps in time; 0 after them, as a convolution pads. None: over all."""

    lengths: Tensor | None = None

    @classmethod
    def replacing(cls, norm: nn.BatchNorm1d) -> MaskedBatchNorm:
        """With the parameters and statistics of `norm`, under the same names."""
        own = cls(norm.num_features, norm.eps, norm.momentum)
        own.weight, own.bias = norm.weight, norm.bias
        own.running_mean, own.running_var = norm.running_mean, norm.running_var
        return own

    def forward(self, input: Float[Tensor, "N C L"]) -> Float[Tensor, "N C L"]:
        output = super().forward(input)
        if self.lengths is None:
            return output
        return output * (torch.arange(input.shape[2], device=input.device) < self.lengths[:, None, None])


def mask_first_norm(model: nn.Module) -> None:
    """Replace the group norm of the first convolution, if it has one, by one that ignores padding."""
    first = model.get_submodule("feature_extractor.conv_layers.0")
    if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        first.layer_norm = MaskedGroupNorm.replacing(first.layer_norm)  # type: ignore[arg-type]


def set_lengths(model: nn.Module, lengths: Int[Tensor, " N"], kernel: int, stride: int) -> None:
    """Set the `lengths` of the next input for the norm of the first convolution, which has this kernel and stride."""
    norm = getattr(model.get_submodule("feature_extractor.conv_layers.0"), "layer_norm", None)
    if isinstance(norm, MaskedGroupNorm):
        norm.lengths = (lengths - kernel) // stride + 1


def convolution_times(samples: int, kernels: Sequence[int], strides: Sequence[int]) -> tuple[Float[Tensor, " L"], int]:
    """Of a chain of convolutions without padding: the centre of each output's receptive field, and the field's size.

    Both in samples. Raises UsageError when there are too few samples for one output.
    """
    first, step, length = 0.0, 1, samples
    for kernel, stride in zip(kernels, strides, strict=True):
        first += step * (kernel - 1) / 2
        step *= stride
        length = (length - kernel) // stride + 1
    if length < 1:
        raise UsageError(f"window_s: {samples} samples are too few for this encoder; set a longer window")
    return first + step * torch.arange(length), round(2 * first + 1)
