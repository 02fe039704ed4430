"""The tiny built-in audio encoder: temporal convolutions over the log-mel spectrogram.

Mel bands are the channels of the first convolution. Two strided convolutions reduce 100 rows a second to 25, residual
blocks widen the receptive field of a token.
"""

from __future__ import annotations

from torch import nn

from mmattn.encoders.interface import AudioEncoder
from mmattn.encoders.tiny.temporal import StridedConv, TemporalBlock, centred, init_weights, zero_padding
from mmattn.types import Batch, Tokens


class ConvAudioEncoder(AudioEncoder):
    """Log-mel (B, F, M) -> tokens (B, ceil(F/4), dim).

    `centred`: subtract from mel bands and tokens their mean over the clip, as from cepstra in speech recognition. That
    removes the constant part of voice and room, and steady sounds too.
    """

    def __init__(
        self, dim: int, mels: int, blocks: int = 3, kernel: int = 7, dropout: float = 0.1, centred: bool = False
    ) -> None:
        super().__init__()
        self.dim = dim
        self.centred = centred
        self.first = StridedConv(mels, dim, 5, 2)
        self.second = StridedConv(dim, dim, 5, 2)
        self.blocks = nn.ModuleList([TemporalBlock(dim, kernel, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)
        self.blocks.apply(init_weights)

    def forward(self, batch: Batch) -> Tokens:
        x, keep, times = batch.spectrogram, batch.spectrogram_keep, batch.spectrogram_times
        if self.centred:
            x = centred(x, keep)
        for strided in (self.first, self.second):
            x = strided(x, keep)
            keep, times = strided.subsample(keep), strided.subsample(times)
        if self.centred:
            x = centred(x, keep)
        for block in self.blocks:
            x = block(x, keep)
        return Tokens(zero_padding(self.norm(x), keep), keep, times, "spectrogram_keep" in batch.full)
