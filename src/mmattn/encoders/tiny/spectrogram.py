"""A Transformer over patches of the batch's log-mel spectrogram, as in AST and CAV-MAE.

Shape legend: B clips, F spectrogram rows, M mel bands, S steps and U bands of patches, W channels inside.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.interface import AudioEncoder
from mmattn.encoders.tiny.temporal import zero_padding
from mmattn.errors import UsageError
from mmattn.types import Batch, Tokens


class SpectrogramTransformer(AudioEncoder):
    """Spectrogram (B, F, M) -> tokens (B, S * U, dim), by time, then band (Gong et al. 2021; Gong et al. 2023).

    Patches of `patch` x `patch` do not overlap, as in CAV-MAE. Padding within a patch is 0. `steps`: the number of
    position embeddings in time; longer audio raises UsageError.
    """

    def __init__(
        self,
        dim: int,
        mels: int,
        width: int = 192,
        layers: int = 12,
        heads: int = 3,
        patch: int = 16,
        steps: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if mels % patch or width % heads or min(layers, steps) < 1:
            raise UsageError(
                f"audio: expected patch={patch} to divide the {mels} mel bands, heads={heads} to divide width={width}, "
                "and layers and steps of 1 or more"
            )
        self.dim = dim
        self.patch = patch
        self.embed = nn.Conv2d(1, width, patch, stride=patch)
        self.when = nn.Parameter(torch.randn(steps, 1, width) * 0.02)
        self.band = nn.Parameter(torch.randn(mels // patch, width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim) if width != dim else nn.Identity()

    def forward(self, batch: Batch) -> Tokens:
        spectrogram = batch.spectrogram * batch.spectrogram_keep[..., None]
        missing = -spectrogram.shape[1] % self.patch
        spectrogram = nn.functional.pad(spectrogram, (0, 0, 0, missing))
        x = self.embed(spectrogram[:, None]).permute(0, 2, 3, 1)  # (B, S, U, W)
        steps, bands = x.shape[1:3]
        if steps > len(self.when):
            raise UsageError(
                f"audio.steps={len(self.when)}: the audio has {steps} patches in time; set audio.steps={steps}"
            )
        x = (x + self.when[:steps] + self.band).flatten(1, 2)
        kept = nn.functional.pad(batch.spectrogram_keep, (0, missing)).unflatten(1, (steps, self.patch)).any(dim=2)
        keep = kept.repeat_interleave(bands, dim=1)
        times = self._centres(batch.spectrogram_times, steps).repeat_interleave(bands, dim=1)
        attended = keep | ~keep.any(dim=1, keepdim=True)  # a clip without audio attends to zeros; keep drops its tokens
        for block in self.blocks:
            x = block(x, src_key_padding_mask=~attended)
        full = "spectrogram_keep" in batch.full
        return Tokens(zero_padding(self.project(self.norm(x)), keep), keep, times, full)

    def _centres(self, times: Float[Tensor, "B F"], steps: int) -> Float[Tensor, "B S"]:
        """Halfway between a patch's first row and its last, also if the clip ends within it."""
        starts = times[:, :: self.patch]
        step = times[:, 1:2] - times[:, :1] if times.shape[1] > 1 else 0.0
        return starts[:, :steps] + (self.patch - 1) / 2 * step
