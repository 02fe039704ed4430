"""The tiny built-in visual encoder: a small convolutional stem on each frame, then temporal convolutions in each cell.

Each frame becomes grid x grid tokens, so that objects at different places stay separate; each token has its frame's
time. A frame's patches are embedded together with their change since the previous frame, because sounds go with what
moves or flashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.tiny.temporal import TemporalBlock, init_weights, zero_padding
from mmattn.types import Batch, Tokens

MOTION_GAIN = 4.0  # gives a flash about the weight of the static image


class ConvVisualEncoder(VisualEncoder):
    """Frames (B, T, 3, H, W) uint8 -> tokens (B, T * grid * grid, dim), ordered by time, then row, then column."""

    def __init__(
        self,
        dim: int,
        widths: Sequence[int] = (32, 64, 96),
        patch: int = 4,
        grid: int = 2,
        blocks: int = 2,
        kernel: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.grid = grid
        self.patch = nn.Conv2d(3, widths[0], patch + 1, stride=patch, padding=patch // 2)
        self.stem = nn.Sequential(*_stem(widths))
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.motion = nn.Linear(widths[0], dim)
        self.project = nn.Linear(widths[-1], dim)
        self.place = nn.Parameter(torch.randn(grid * grid, dim) * 0.02)
        self.blocks = nn.ModuleList([TemporalBlock(dim, kernel, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)
        self.blocks.apply(init_weights)

    def forward(self, batch: Batch) -> Tokens:
        clips, frames = batch.frame_keep.shape
        cells = self.grid * self.grid
        patches = self._patches(batch)
        x = self._cells(self.stem(patches), self.project) + self._cells(self._energy(patches, batch), self.motion)
        x = x.view(clips, frames, cells, self.dim) + self.place
        x = x.transpose(1, 2).reshape(clips * cells, frames, self.dim)  # each cell is a sequence in time
        keep = batch.frame_keep.repeat_interleave(cells, dim=0)
        for block in self.blocks:
            x = block(x, keep)
        x = x.view(clips, cells, frames, self.dim).transpose(1, 2).flatten(1, 2)  # (B, T*cells, dim)
        keep = batch.frame_keep.repeat_interleave(cells, dim=1)
        times = batch.frame_times.repeat_interleave(cells, dim=1)
        return Tokens(zero_padding(self.norm(x), keep), keep, times, "frame_keep" in batch.full)

    def _patches(self, batch: Batch) -> Float[Tensor, "BT C h w"]:
        pixels = batch.frames.flatten(0, 1).contiguous(memory_format=torch.channels_last).float() / 127.5 - 1.0
        return self.patch(pixels)

    def _energy(self, patches: Float[Tensor, "BT C h w"], batch: Batch) -> Float[Tensor, "BT C h w"]:
        """The change of each patch since the previous frame; 0 for the first frame and across padding."""
        x = patches.unflatten(0, batch.frame_keep.shape)
        both = (batch.frame_keep[:, 1:] & batch.frame_keep[:, :-1])[..., None, None, None]
        change = MOTION_GAIN * (x[:, 1:] - x[:, :-1]).abs() * both
        return torch.cat([torch.zeros_like(change[:, :1]), change], dim=1).flatten(0, 1)

    def _cells(self, x: Float[Tensor, "BT C h w"], project: nn.Linear) -> Float[Tensor, "BT cells D"]:
        return project(self.pool(x).flatten(2).mT)


def _stem(widths: Sequence[int]) -> list[nn.Module]:
    """One strided 3x3 convolution for each width after the first; GroupNorm is per frame."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.GroupNorm(8, narrow), nn.GELU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
    return [*layers, nn.GroupNorm(8, widths[-1]), nn.GELU()]
