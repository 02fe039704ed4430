"""pretrain=sync: learns whether audio and video are synchronous.

Shape legend: B clips of this process, T frames, F rows of the spectrogram, L tokens, D channels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.tasks.distributed import each_process
from mmattn.training.distributed.meter import wide
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch, Fused, Tokens


class Synchrony(Objective):
    """Tells a clip from the same clip with shifted audio, through the fusion (Owens & Efros; Korbar et al., 2018).

    Both streams are rolled: what leaves at the end enters at the start. In a synchronous pair both are rolled by the
    same time; in the other pair by times at least `least_s` apart. Each shift is uniform in both pairs, so neither
    stream alone reveals the pair. Clips that lack a modality, or do not fill the time (padding would reveal the shift),
    do not count.
    """

    def __init__(self, dim: int, least_s: float = 0.2) -> None:
        super().__init__()
        if least_s <= 0:
            raise UsageError(f"pretrain: expected least_s above 0, got {least_s:g}")
        self.least_s = least_s
        self.judge = nn.Sequential(nn.LayerNorm(4 * dim), nn.Linear(4 * dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        if batch.waveform is not None or batch.features:
            raise UsageError(
                "pretrain=sync shifts frames and the spectrogram, and the encoders read a waveform or features; use "
                "audio=spectrogram or audio=tiny, or pretrain=contrastive"
            )
        video_shift, audio_shift, late_shift = self._shifts(batch, generator)
        video, audio = model.encode(rolled(batch, video_shift, audio_shift))
        late = model.audio(rolled(batch, video_shift, late_shift))
        answers = torch.stack([self._judge(model.fuse(video, other)) for other in (audio, late)], dim=1)  # (B, 2)
        truth = torch.tensor([1.0, 0.0], device=answers.device).expand_as(answers)
        whole = batch.frame_keep.all(dim=1) & batch.spectrogram_keep.all(dim=1)
        counted = (batch.real & whole)[:, None].float()
        losses = binary_cross_entropy_with_logits(answers.float(), truth, reduction="none")
        total = 2 * each_process(counted.sum())
        right = ((answers > 0) == (truth > 0)) * counted
        return {"loss": (losses * counted).sum() / total, "right": right.sum() / total}

    def _shifts(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) each: the shift of frames, of rows in synchrony with them, and of rows out of synchrony."""
        clips, frames = batch.frame_keep.shape
        rows = batch.spectrogram.shape[1]
        drawn = torch.rand(2, clips, generator=generator).to(batch.frames.device)
        picture = (drawn[0] * frames).long()
        sound = (picture * rows / frames).round().long()
        seconds = wide(batch.spectrogram_times[:, :2].diff(dim=1).max()) * rows
        least = (self.least_s / seconds).clamp(max=0.5)
        away = (least + drawn[1] * (1 - 2 * least)) * rows
        return picture, sound, sound + away.round().long()

    def _judge(self, fused: Fused) -> Float[Tensor, " B"]:
        return self.judge(torch.cat([*_pooled(fused.video), *_pooled(fused.audio)], dim=1))[:, 0]


def rolled(batch: Batch, picture: Int[Tensor, " B"], sound: Int[Tensor, " B"]) -> Batch:
    """The batch with frames and spectrogram rows of each clip rolled by these shifts. Times are kept."""
    return replace(
        batch,
        frames=_roll(batch.frames, picture),
        frame_keep=_roll(batch.frame_keep, picture),
        spectrogram=_roll(batch.spectrogram, sound),
        spectrogram_keep=_roll(batch.spectrogram_keep, sound),
    )


def _roll(x: Tensor, by: Int[Tensor, " B"]) -> Tensor:
    place = (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1]
    return x[torch.arange(len(x), device=x.device)[:, None], place]


def _pooled(tokens: Tokens) -> tuple[Tensor, Tensor]:
    keep = tokens.keep[..., None]
    mean = (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    highest = tokens.values.masked_fill(~keep, torch.finfo(tokens.values.dtype).min).amax(dim=1)
    return mean, highest.where(keep.any(dim=1), 0.0)
