"""Whether sound and picture run at the same time, as something to learn from without labels.

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
from mmattn.tasks.counts import each_process
from mmattn.training.distributed.meter import wide
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch, Fused, Tokens


class Synchrony(Objective):
    """Tell through the fusion a clip from itself with its sound at another time (Owens & Efros, Korbar et al., 2018).

    Both streams are turned round: what leaves at the end comes in at the start. Sound and picture of a pair in time are
    turned alike, those of the other by `least_s` or more against each other. As each is turned by a time drawn
    uniformly in both, neither alone shows which pair it is of. Clips that lack a modality, or that do not fill the time
    (whose padding would tell), are not asked.
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
                "pretrain=sync turns pictures and spectrogram round, and the encoders read a waveform or features; use "
                "audio=spectrogram or audio=tiny, or pretrain=contrastive"
            )
        picture, sound, other = self._turns(batch, generator)
        video, audio = model.encode(turned(batch, picture, sound))
        late = model.audio(turned(batch, picture, other))
        answers = torch.stack([self._judge(model.fuse(video, heard)) for heard in (audio, late)], dim=1)  # (B, 2)
        truth = torch.tensor([1.0, 0.0], device=answers.device).expand_as(answers)
        whole = batch.frame_keep.all(dim=1) & batch.spectrogram_keep.all(dim=1)
        asked = (batch.real & whole)[:, None].float()
        losses = binary_cross_entropy_with_logits(answers.float(), truth, reduction="none")
        total = 2 * each_process(asked.sum())
        right = ((answers > 0) == (truth > 0)) * asked
        return {"loss": (losses * asked).sum() / total, "right": right.sum() / total}

    def _turns(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) each: frames for the picture, rows for the sound in time with it, rows for the sound that is not."""
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
        return self.judge(torch.cat([*_pools(fused.video), *_pools(fused.audio)], dim=1))[:, 0]


def turned(batch: Batch, picture: Int[Tensor, " B"], sound: Int[Tensor, " B"]) -> Batch:
    """Each clip's frames and rows later by so many, those from the end at the start. Times stay."""
    return replace(
        batch,
        frames=_turn(batch.frames, picture),
        frame_keep=_turn(batch.frame_keep, picture),
        spectrogram=_turn(batch.spectrogram, sound),
        spectrogram_keep=_turn(batch.spectrogram_keep, sound),
    )


def _turn(x: Tensor, by: Int[Tensor, " B"]) -> Tensor:
    place = (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1]
    return x[torch.arange(len(x), device=x.device)[:, None], place]


def _pools(tokens: Tokens) -> tuple[Tensor, Tensor]:
    keep = tokens.keep[..., None]
    mean = (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    highest = tokens.values.masked_fill(~keep, torch.finfo(tokens.values.dtype).min).amax(dim=1)
    return mean, highest.where(keep.any(dim=1), 0.0)
