"""Tokens from networks made for sound: the raw waveform goes in, the network brings its own front end.

A network hears windows of a fixed number of samples; longer sound is heard in windows, one after the other. After the
sound's end a window is filled as the network was trained to have it, and windows without sound are not heard, so
nothing depends on what a clip is batched with.

Shape legend: N windows, n samples of a window, L tokens of a window, C the network's channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.encoders.interface import AudioEncoder
from mmattn.encoders.pretrained.adapt import Adapted, Mode
from mmattn.encoders.pretrained.tokens import Projection
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens


class WaveformEncoder(AudioEncoder):
    """`net`: windows (N, n) at `sample_rate`, heard (N,) -> (N, L, C). `heard` counts samples up to the sound's end.

    `window` = n. `times` (L,): the middle of what each token stands for, in s from the window's start. A token is kept
    where the sound goes on for `reach` s beyond its time: half of what a convolution without padding reads.
    `example`: how many samples it takes to see what the network is made of, if not a whole window.
    """

    times: Tensor

    def __init__(
        self,
        dim: int,
        net: nn.Module,
        channels: int,
        mode: Mode,
        lora: Mapping[str, Any],
        *,
        sample_rate: int,
        window: int,
        times: Float[Tensor, " L"],
        reach: float = 0.0,
        example: int | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.sample_rate = sample_rate
        self.window = window
        self.reach = reach
        self.register_buffer("times", times.float(), persistent=False)
        few = example or window
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, few), torch.full((1,), few)))
        self.project = Projection(channels, dim)

    def forward(self, batch: Batch) -> Tokens:
        waveform, heard = sound_of(batch, self.sample_rate)
        clips, samples = waveform.shape
        count = -(-samples // self.window)
        windows = nn.functional.pad(waveform, (0, count * self.window - samples)).view(-1, self.window)
        starts = torch.arange(count, device=waveform.device) * self.window
        left = (heard[:, None] - starts).clamp(0, self.window)  # (B, W) samples of each window up to the sound's end
        values = self.backbone(windows, left.flatten(), real=left.flatten() > 0)  # (B*W, L, C)
        values = self.project(values.view(clips, -1, values.shape[-1]))
        times = (starts[:, None] / self.sample_rate + self.times).flatten().expand(clips, -1)
        keep = (self.times < left[..., None] / self.sample_rate - self.reach).flatten(1)
        keep = keep | ((heard > 0)[:, None] & (torch.arange(keep.shape[1], device=keep.device) == 0))
        return Tokens(zero_padding(values, keep), keep, times)


def sound_of(batch: Batch, sample_rate: int) -> tuple[Float[Tensor, "B N"], Int[Tensor, " B"]]:
    """The waveforms, 0 where they are not real, and how many samples there are up to each sound's end.

    Raises UsageError when the batch has none, or another rate.
    """
    if batch.waveform is None or batch.waveform_keep is None:
        raise UsageError("this audio encoder hears waveforms; set data.clip.waveform=true")
    check_rate(batch.sample_rate, sample_rate)
    keep = batch.waveform_keep
    places = torch.arange(1, keep.shape[1] + 1, device=keep.device)
    return torch.where(keep, batch.waveform, 0.0), (keep * places).amax(dim=1)


def check_rate(given: int, wanted: int) -> None:
    """Raises UsageError."""
    if given != wanted:
        raise UsageError(f"this audio encoder hears {wanted} Hz, not {given}; set data.clip.sample_rate={wanted}")


def by_length(
    net: Callable[[Tensor], Tensor], waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"], tokens: int
) -> Float[Tensor, "N L C"]:
    """`net` on waveforms cut to their `lengths`, all of one length at a time; zeros behind, up to `tokens`.

    For networks that would take zeros behind a sound for silence in it.
    """
    rows_of = [(int(length), (lengths == length).nonzero()[:, 0]) for length in lengths.unique()]
    parts = [(rows, net(waveform[rows, :length])) for length, rows in rows_of]
    whole = parts[0][1].new_zeros(len(waveform), tokens, parts[0][1].shape[2])
    for rows, values in parts:
        whole[rows, : values.shape[1]] = values
    return whole
