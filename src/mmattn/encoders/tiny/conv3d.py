"""Spatio-temporal convolution, then residual convolutions on each frame, then convolutions along time: for lip reading.

The order is that of Stafylakis & Tzimiropoulos 2017 (a 5 x 7 x 7 stem, a ResNet on each frame, a back end in time),
with the flattened output of LipNet (Assael et al. 2016): a frame's last feature map is flattened and not averaged,
because the shape of lips is in the positions of their edges. It is small enough for a CPU; normalisation is per frame
and per clip, so that a clip's tokens do not depend on the other clips of its batch.

The mean over a clip depends on who speaks and where, but not on what is said. So it is subtracted from pixels and
tokens, as from cepstra in speech recognition. Otherwise nine tenths of a new encoder's tokens are constant, and
training takes long to make progress. The disadvantage is that an image that does not move gives no information.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.tiny.temporal import TemporalBlock, centred, init_weights, zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens

GROUPS = 8  # of channels, of GroupNorm
PLAIN = torch.contiguous_format
LEAST_VARIANCE = 1e-4  # of pixels in [0, 1]: smaller changes are not amplified


class Conv3dEncoder(VisualEncoder):
    """Frames (B, T, 3, H, W) uint8 -> tokens (B, ceil(T / stride[0]), dim), at the times of every stride[0]-th frame.

    `region`: top, left, bottom and right of the part of the frame to use, as fractions of its height and width.
    `kernel`, `stride`: of the stem, in frames, rows and columns. `widths`: channels of the stem, then of each residual
    stage, which halves rows and columns. `grid`: rows and columns to which the last map is averaged.
    """

    def __init__(
        self,
        dim: int,
        region: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
        widths: Sequence[int] = (48, 96, 128),
        kernel: Sequence[int] = (5, 7, 7),
        stride: Sequence[int] = (1, 4, 4),
        grid: Sequence[int] = (3, 4),
        blocks: int = 3,
        time_kernel: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        top, left, bottom, right = region
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise UsageError(
                f"visual.region={list(region)}: expected [top, left, bottom, right], fractions from 0 to 1"
            )
        if any(size % 2 == 0 for size in kernel):
            raise UsageError(
                f"visual.kernel={list(kernel)}: expected odd numbers, so that tokens are centred on their times"
            )
        if any(width % GROUPS for width in widths):
            raise UsageError(f"visual.widths={list(widths)}: expected multiples of {GROUPS}")
        self.dim = dim
        self.region = (top, left, bottom, right)
        frames, rows, columns = kernel
        padding = (frames // 2, rows // 2, columns // 2)
        self.time_stride = stride[0]
        self.stem = nn.Conv3d(3, widths[0], (frames, rows, columns), (stride[0], stride[1], stride[2]), padding)
        self.stages = nn.Sequential(*(ResidualStage(narrow, wide) for narrow, wide in pairwise(widths)))
        self.pool = nn.AdaptiveAvgPool2d((grid[0], grid[1]))
        self.norm_map = nn.GroupNorm(GROUPS, widths[-1])
        self.project = nn.Linear(widths[-1] * grid[0] * grid[1], dim, bias=False)  # centred() would remove a bias
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([TemporalBlock(dim, time_kernel, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)
        self.blocks.apply(init_weights)

    def forward(self, batch: Batch) -> Tokens:
        keep, times = batch.frame_keep[:, :: self.time_stride], batch.frame_times[:, :: self.time_stride]
        x = self.stem(self._pixels(batch)).transpose(1, 2).flatten(0, 1)  # (B*T, C, h, w)
        x = self.stages(x.contiguous(memory_format=torch.channels_last))
        x = self.project(self.dropout(self.pool(nn.functional.relu(self.norm_map(x))).flatten(1)))
        x = centred(x.unflatten(0, keep.shape), keep)
        for block in self.blocks:
            x = block(x, keep)
        return Tokens(zero_padding(self.norm(x), keep), keep, times, "frame_keep" in batch.full)

    def _pixels(self, batch: Batch) -> Float[Tensor, "B 3 T h w"]:
        """The region with zero mean over the clip and unit variance; padding is 0, like that of the stem."""
        height, width = batch.frames.shape[-2:]
        rows, columns = (
            slice(int(low * size), max(int(low * size) + 1, round(high * size)))
            for low, high, size in zip(self.region[:2], self.region[2:], (height, width), strict=True)
        )
        # Few passes, in place: otherwise this takes a quarter of a training step on a CPU.
        pixels = batch.frames[..., rows, columns].permute(0, 1, 3, 4, 2).to(torch.float32, memory_format=PLAIN)
        keep = batch.frame_keep[:, :, None, None, None]
        count = keep.sum(dim=1, keepdim=True).clamp(min=1)
        if not batch.frame_keep.all():
            pixels.mul_(keep)
        pixels.sub_(pixels.sum(dim=1, keepdim=True) / count)
        if not batch.frame_keep.all():
            pixels.mul_(keep)
        power = torch.linalg.vector_norm(pixels, dim=(1, 2, 3, 4), keepdim=True).square()
        variance = power / (count * pixels[0, 0].numel())
        return pixels.mul_((variance + LEAST_VARIANCE * 255**2).rsqrt()).permute(0, 4, 1, 2, 3)  # channels last


class CentredConv2d(nn.Conv2d):
    """Filters of zero mean: the common part of all channels does not grow from layer to layer (Qiao et al. 2019)."""

    def forward(self, input: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h2 w2"]:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(input, weight, self.bias, self.stride, self.padding)


class ResidualStage(nn.Module):
    """A pre-activation residual block (He et al. 2016) that halves rows and columns, (N, C, h, w) -> (N, D, h/2, w/2).

    The shortcut is an average and a linear map (ResNet-D, He et al. 2019).
    """

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, narrow)
        self.down = CentredConv2d(narrow, wide, 3, stride=2, padding=1)
        self.norm_mid = nn.GroupNorm(GROUPS, wide)
        self.conv = CentredConv2d(wide, wide, 3, padding=1)
        self.past = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(narrow, wide, 1))

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N D h2 w2"]:
        inner = nn.functional.relu(self.norm_in(x))
        inner = self.conv(nn.functional.relu(self.norm_mid(self.down(inner))))
        return self.past(x) + inner
