"""Tokens from networks that take the raw waveform and bring their own front end.

A network reads windows of a fixed number of samples; longer audio is read in consecutive windows. After the end of the
audio a window is filled as the network was trained, and windows without audio are skipped, so nothing depends on the
other clips of a batch.

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
    """`net`: windows (N, n) at `sample_rate`, lengths (N,) -> (N, L, C). `lengths` count samples up to the audio's end.

    `window` = n. `times` (L,): the centre of each token, in s from the window's start. A token is kept if the audio
    goes on for `reach` s after its time: half the receptive field of convolutions without padding. `example`: how many
    samples are enough to trace the network, if not a whole window.
    """

    times: Tensor

    def __init__(
        self,
        dim: int,
        net: nn.Module,
        channels: int,
        mode: Mode,
        lora: Mapping[str, Any] | None,
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
        samples = example or window
        self.backbone = Adapted(net, mode, lora, (torch.zeros(1, samples), torch.full((1,), samples)))
        self.project = Projection(channels, dim)

    def forward(self, batch: Batch) -> Tokens:
        waveform, lengths = waveform_of(batch, self.sample_rate)
        clips, samples = waveform.shape
        count = -(-samples // self.window)
        windows = nn.functional.pad(waveform, (0, count * self.window - samples)).view(-1, self.window)
        starts = torch.arange(count, device=waveform.device) * self.window
        left = (lengths[:, None] - starts).clamp(0, self.window)  # (B, W) samples of each window up to the audio's end
        values = self.backbone(windows, left.flatten(), keep=left.flatten() > 0)  # (B*W, L, C)
        values = self.project(values.view(clips, -1, values.shape[-1]))
        times = (starts[:, None] / self.sample_rate + self.times).flatten().expand(clips, -1)
        keep = (self.times < left[..., None] / self.sample_rate - self.reach).flatten(1)
        keep = keep | ((lengths > 0)[:, None] & (torch.arange(keep.shape[1], device=keep.device) == 0))
        return Tokens(zero_padding(values, keep), keep, times)


def waveform_of(batch: Batch, sample_rate: int) -> tuple[Float[Tensor, "B N"], Int[Tensor, " B"]]:
    """The waveforms, 0 where they are padding, and the number of samples up to the end of each.

    Raises UsageError if the batch has no waveforms, or has them at another rate.
    """
    if batch.waveform is None or batch.waveform_keep is None:
        raise UsageError("this audio encoder needs waveforms; set data.clip.waveform=true")
    check_rate(batch.sample_rate, sample_rate)
    keep = batch.waveform_keep
    positions = torch.arange(1, keep.shape[1] + 1, device=keep.device)
    return torch.where(keep, batch.waveform, 0.0), (keep * positions).amax(dim=1)


def check_rate(rate: int, expected: int) -> None:
    """Raises UsageError unless the `rate` of the data is the `expected` one, in Hz."""
    if rate != expected:
        raise UsageError(f"this audio encoder needs {expected} Hz, not {rate}; set data.clip.sample_rate={expected}")


def by_length(
    net: Callable[[Tensor], Tensor], waveform: Float[Tensor, "N n"], lengths: Int[Tensor, " N"], tokens: int
) -> Float[Tensor, "N L C"]:
    """Run `net` on waveforms cut to their `lengths`, those of one length together; pad the output to `tokens`.

    For networks without a padding mask, which would take the zeros after the audio for silence in it.
    """
    rows_of = [(int(length), (lengths == length).nonzero()[:, 0]) for length in lengths.unique()]
    parts = [(rows, net(waveform[rows, :length])) for length, rows in rows_of]
    whole = parts[0][1].new_zeros(len(waveform), tokens, parts[0][1].shape[2])
    for rows, values in parts:
        whole[rows, : values.shape[1]] = values
    return whole
