"""YAMNet (Plakal and Ellis 2019): MobileNet v1 on log-mel patches of 0.96 s, 521 AudioSet classes.

Its batch norms are folded into the convolutions, as in the published TFLite file that the weights come from. The front
end (25 ms Hann windows, 10 ms hops, 64 bands from 125 to 7500 Hz, log(magnitude + 0.001)) is computed exactly; in the
file it consists of 8-bit matrices, which are less exact for quiet audio.

Shape legend: N waveforms or patches, n samples, P patches, F = 96 rows of a patch, M = 64 bands.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.pretrained.precision import full_precision

RATE = 16000
ROWS, PATCH_HOP = 96, 48  # spectrogram rows of a patch, and from one patch to the next
PATCH, HOP = 400 + 160 * (ROWS - 1), 160 * PATCH_HOP  # in samples: 0.975 s, 0.48 s
MIDDLE_S = PATCH / 2 / RATE
CLASSES, CHANNELS = 521, 1024
_BLOCKS = ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *((1, 512),) * 5, (2, 1024), (1, 1024))


class YamnetLogMel(nn.Module):
    """Waveforms (N, n) at 16 kHz -> rows (N, F, 64), one every 160 samples, as many as fit."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(400), persistent=False)
        self.register_buffer("filters", _mel_filters().float(), persistent=False)

    def forward(self, waveform: Float[Tensor, "N n"]) -> Float[Tensor, "N F M"]:
        with full_precision(waveform.device):
            frames = waveform.float().unfold(1, 400, 160) * self.window
            return (torch.fft.rfft(frames, 512).abs() @ self.filters + 0.001).log()


class YAMNet(nn.Module):
    """Patches (N, 96, 64) -> class logits (N, 521); `embed` gives the features before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        layers = [_Conv(1, 32, 3, 2)]
        channels = 32
        for stride, wide in _BLOCKS:
            layers += [_Conv(channels, channels, 3, stride, groups=channels), _Conv(channels, wide, 1, 1)]
            channels = wide
        self.body = nn.Sequential(*layers)
        self.classes = nn.Linear(CHANNELS, CLASSES)
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):  # without batch norms the default would make signals vanish
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def embed(self, patches: Float[Tensor, "N F M"]) -> Float[Tensor, "N 1024"]:
        """The features before the classifier."""
        return self.body(patches[:, None]).mean(dim=(2, 3))

    def forward(self, patches: Float[Tensor, "N F M"]) -> Float[Tensor, "N 521"]:
        return self.classes(self.embed(patches))


def _mel_filters() -> Float[Tensor, "257 64"]:
    """Triangles that are linear in mel, as in TensorFlow; in other libraries they are linear in Hz."""
    mels = 1127 * (1 + torch.linspace(0, RATE / 2, 257, dtype=torch.float64)[:, None] / 700).log()
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (125, 7500))
    edges = torch.linspace(low, high, 66, dtype=torch.float64)
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)


class _Conv(nn.Sequential):
    """Convolution with TensorFlow's padding "same" (an odd pixel goes to the end), then ReLU."""

    def __init__(self, channels: int, wide: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(nn.Conv2d(channels, wide, kernel, stride=stride, groups=groups), nn.ReLU())
        self.kernel, self.stride = kernel, stride

    def forward(self, input: Tensor) -> Tensor:
        sides = [max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0) for size in input.shape[2:]]
        around = [side for n in reversed(sides) for side in (n // 2, n - n // 2)]
        return super().forward(nn.functional.pad(input, around))


def fill_last_patch(waveform: Float[Tensor, "N n"]) -> Float[Tensor, "N m"]:
    """Pad with zeros, so that patches cover the whole waveform."""
    count = max(1, -(-(waveform.shape[1] - PATCH) // HOP) + 1)
    return nn.functional.pad(waveform, (0, PATCH + HOP * (count - 1) - waveform.shape[1]))


def to_patches(rows: Float[Tensor, "N F M"]) -> Float[Tensor, "N P 96 64"]:
    """Overlapping patches of a spectrogram, one every 48 rows."""
    return rows.unfold(1, ROWS, PATCH_HOP).transpose(2, 3)


def patch_count(samples: Tensor) -> Tensor:
    """The number of patches that cover so many samples; 0 for 0."""
    return torch.where(samples > 0, ((samples - PATCH).clamp(min=0) + HOP - 1) // HOP + 1, 0)


def patch_times(count: int) -> Float[Tensor, " P"]:
    """The centre of each patch, in s."""
    return torch.arange(count) * (HOP / RATE) + MIDDLE_S
