"""The tiny built-in visual encoder: a small convolutional stem on each frame, then temporal convolutions in each cell.

Each frame becomes grid x grid tokens, so that things at different places stay apart; each token carries its frame's
time. Frames go through the stem as differences to mid-grey; a second set of three channels holds the change since the
frame before, because what moves or flashes is what sound goes with.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.interface import VisualEncoder
from mmattn.encoders.temporal import TemporalBlock, init_weights, zero_padding
from mmattn.types import Batch, Tokens


class ConvVisualEncoder(VisualEncoder):
    """Frames (B, T, 3, H, W) uint8 -> tokens (B, T * grid * grid, dim), ordered by time, then row, then column."""

    def __init__(
        self,
        dim: int,
        widths: tuple[int, ...] = (32, 64, 96),
        patch: int = 4,
        grid: int = 2,
        blocks: int = 2,
        kernel: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.grid = grid
        self.stem = nn.Sequential(*_stem(widths, patch), nn.AdaptiveAvgPool2d(grid))
        self.project = nn.Linear(widths[-1], dim)
        self.place = nn.Parameter(torch.randn(grid * grid, dim) * 0.02)
        self.blocks = nn.ModuleList([TemporalBlock(dim, kernel, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)
        self.project.apply(init_weights)
        self.blocks.apply(init_weights)

    def forward(self, batch: Batch) -> Tokens:
        clips, frames = batch.frame_keep.shape
        cells = self.grid * self.grid
        x = _with_change(batch)  # (B*T, 6, H, W)
        x = self.stem(x).flatten(2).mT  # (B*T, cells, C)
        x = self.project(x).view(clips, frames, cells, self.dim) + self.place
        x = x.transpose(1, 2).reshape(clips * cells, frames, self.dim)  # each cell is a sequence in time
        keep = batch.frame_keep.repeat_interleave(cells, dim=0)
        for block in self.blocks:
            x = block(x, keep)
        x = x.view(clips, cells, frames, self.dim).transpose(1, 2).flatten(1, 2)  # (B, T*cells, dim)
        keep = batch.frame_keep.repeat_interleave(cells, dim=1)
        times = batch.frame_times.repeat_interleave(cells, dim=1)
        return Tokens(zero_padding(self.norm(x), keep), keep, times)


def _stem(widths: tuple[int, ...], patch: int) -> list[nn.Module]:
    """A patch embedding, then one strided 3x3 convolution for each further width; GroupNorm is per frame."""
    layers: list[nn.Module] = [nn.Conv2d(6, widths[0], patch + 1, stride=patch, padding=patch // 2)]
    for narrow, wide in zip(widths, widths[1:], strict=False):
        layers += [nn.GroupNorm(8, narrow), nn.GELU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
    return [*layers, nn.GroupNorm(8, widths[-1]), nn.GELU()]


def _with_change(batch: Batch) -> Float[Tensor, "BT 6 H W"]:
    """Frames in [-1, 1] and their change since the frame before (0 for the first, and across padding)."""
    frames = batch.frames.float() / 127.5 - 1.0
    change = torch.zeros_like(frames)
    both = (batch.frame_keep[:, 1:] & batch.frame_keep[:, :-1])[..., None, None, None]
    change[:, 1:] = (frames[:, 1:] - frames[:, :-1]) * both
    return torch.cat([frames, change], dim=2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
