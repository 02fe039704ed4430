"""pretrain=mae: masks parts of video and audio, and reconstructs them from the fused streams.

Masked patches are covered (as in SimMIM), not dropped (as in MAE): this works with any encoder, also convolutions, at
the full cost of the encoders. Shape legend: B clips, T frames, P patches of a frame, N patches, V values.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.tasks.distributed import each_process
from mmattn.training.pretrain.objective import Objective
from mmattn.types import Batch, Fused, Tokens

GREY = 127


class Hidden(NamedTuple):
    """The masked patches: values (B, N, V), times (B, N) in s, places (B, N), and which are real (B, N)."""

    values: Tensor
    times: Tensor
    places: Tensor
    real: Tensor


class Masked(Objective):
    """Masked autoencoding of both streams (He et al. 2022; Xie et al. 2022; both streams: Gong et al. 2023).

    Of the `patch` x `patch` pixel patches of a frame the share `video_ratio` is masked, the same in all frames (tubes,
    Tong et al. 2022); of the `rows` x `bands` patches of the spectrogram the share `audio_ratio`, independently. A
    decoder of `layers` blocks cross-attends to the fused tokens of both streams for each masked patch. The loss is the
    mean squared error to the patch's values, normalised within the patch.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        patch: int = 8,
        rows: int = 16,
        bands: int = 16,
        video_ratio: float = 0.75,
        audio_ratio: float = 0.75,
        layers: int = 2,
        places: int = 1024,
    ) -> None:
        super().__init__()
        if not (0 < video_ratio < 1 and 0 < audio_ratio < 1):
            raise UsageError(f"pretrain: expected ratios between 0 and 1, got {video_ratio:g}, {audio_ratio:g}")
        if min(patch, rows, bands, layers, places) < 1:
            raise UsageError("pretrain: expected patch, rows, bands, layers and places of 1 or more")
        self.patch, self.rows, self.bands = patch, rows, bands
        self.video_ratio, self.audio_ratio = video_ratio, audio_ratio
        self.dim, self.places = dim, places
        self.place = nn.ModuleDict({name: nn.Embedding(places, dim) for name in ("video", "audio")})
        self.kind = nn.ParameterDict({name: torch.randn(dim) * 0.02 for name in ("video", "audio")})
        self.blocks = nn.ModuleList([_CrossBlock(dim, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        values = {"video": 3 * patch * patch, "audio": rows * bands}
        self.read = nn.ModuleDict({name: nn.Linear(dim, count) for name, count in values.items()})

    def forward(self, model: AVModel, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        covered, hidden = self.hide(batch, generator)
        video, audio = model.encode(covered)
        return self.restore(model.fuse(video, audio), hidden, batch)

    def hide(self, batch: Batch, generator: torch.Generator | None) -> tuple[Batch, dict[str, Hidden]]:
        """The masked batch, and the masked patches. Raises UsageError for sizes that do not divide."""
        if batch.waveform is not None:
            raise UsageError(
                "pretrain: the audio encoder reads the waveform, which cannot be masked; use audio=spectrogram "
                "or audio=tiny, or pretrain=contrastive"
            )
        height, width = batch.frames.shape[-2:]
        bands = batch.spectrogram.shape[-1]
        if batch.features or height % self.patch or width % self.patch or bands % self.bands:
            raise UsageError(
                f"pretrain: frames of {width}x{height} and {bands} mel bands do not divide into patches of "
                f"{self.patch} pixels and {self.bands} bands (and data=features has neither)"
            )
        if (count := (height // self.patch) * (width // self.patch)) > self.places:
            raise UsageError(
                f"pretrain: frames of {width}x{height} have {count} patches of {self.patch} pixels, more than "
                f"places={self.places}; choose a larger patch"
            )
        frames, video = self._hide_frames(batch, generator)
        spectrogram, audio = self._hide_sound(batch, generator)
        return replace(batch, frames=frames, spectrogram=spectrogram), {"video": video, "audio": audio}

    def _hide_frames(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Hidden]:
        clips, count, _, height, width = batch.frames.shape
        p, down, across = self.patch, height // self.patch, width // self.patch
        chosen, mask = _random_mask(clips, down * across, self.video_ratio, batch.frames.device, generator)
        cover = mask.view(clips, 1, 1, down, across).repeat_interleave(p, -2).repeat_interleave(p, -1)
        patches = batch.frames.unflatten(-1, (across, p)).unflatten(-3, (down, p))  # B T 3 down p across p
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)  # (B, T, P, V)
        hidden = chosen.shape[1]
        index = chosen[:, None, :, None].expand(-1, count, -1, patches.shape[-1])
        values = patches.gather(2, index).flatten(1, 2).float() / 255
        return batch.frames.masked_fill(cover, GREY), Hidden(
            values,
            batch.frame_times.repeat_interleave(hidden, dim=1),
            chosen.repeat(1, count),
            batch.frame_keep.repeat_interleave(hidden, dim=1),
        )

    def _hide_sound(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Hidden]:
        clips, length, bands = batch.spectrogram.shape
        steps, up = length // self.rows, bands // self.bands
        used = steps * self.rows  # rows at the end that do not fill a patch are never masked
        chosen, mask = _random_mask(clips, steps * up, self.audio_ratio, batch.spectrogram.device, generator)
        cover = mask.view(clips, steps, up).repeat_interleave(self.rows, 1).repeat_interleave(self.bands, 2)
        patches = batch.spectrogram[:, :used].unflatten(2, (up, self.bands)).unflatten(1, (steps, self.rows))
        patches = patches.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)  # (B, N, V)
        values = patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[-1]))
        starts = batch.spectrogram_times[:, : used : self.rows].repeat_interleave(up, dim=1)
        whole = batch.spectrogram_keep[:, :used].unflatten(1, (steps, self.rows)).all(dim=2)
        spectrogram = batch.spectrogram.clone()
        spectrogram[:, :used] = spectrogram[:, :used].masked_fill(cover, 0.0)
        real = whole.repeat_interleave(up, dim=1).gather(1, chosen)
        return spectrogram, Hidden(values, starts.gather(1, chosen), chosen % up, real)

    def restore(self, fused: Fused, hidden: dict[str, Hidden], batch: Batch) -> dict[str, Tensor]:
        memory, keep = self._memory(fused)
        terms = {}
        for name, patches in hidden.items():
            x = self.place[name](patches.places) + self.kind[name] + time_code(patches.times, self.dim)
            for block in self.blocks:
                x = block(x, memory, keep)
            found = self.read[name](self.norm(x)).float()
            error = (found - _normalised(patches.values)).square().mean(dim=-1)
            counted = patches.real & batch.real[:, None]
            terms[f"loss_{name}"] = (error * counted).sum() / each_process(counted.sum())
        return {"loss": terms["loss_video"] + terms["loss_audio"], **terms}

    def _memory(self, fused: Fused) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
        streams: dict[str, Tokens] = {"video": fused.video, "audio": fused.audio}
        values = [t.values + self.kind[name] + time_code(t.times, self.dim) for name, t in streams.items()]
        return torch.cat(values, dim=1), torch.cat([t.keep for t in streams.values()], dim=1)


class _CrossBlock(nn.Module):
    """Cross-attention to a memory, then an MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Float[Tensor, "B N D"], memory: Float[Tensor, "B L D"], keep: Bool[Tensor, "B L"]
    ) -> Float[Tensor, "B N D"]:
        keep = keep | ~keep.any(dim=1, keepdim=True)  # a clip without tokens attends to zeros; its loss does not count
        x = x + self.attend(self.norm(x), memory, memory, key_padding_mask=~keep, need_weights=False)[0]
        return x + self.mlp(x)


def _random_mask(
    clips: int, patches: int, ratio: float, device: torch.device, generator: torch.Generator | None
) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B P"]]:
    """The same number of random places for each clip, sorted; and their mask."""
    count = min(max(1, round(ratio * patches)), patches - 1) if patches > 1 else 1
    drawn = torch.rand(clips, patches, generator=generator).to(device)
    chosen = drawn.argsort(dim=1)[:, :count].sort(dim=1).values
    return chosen, torch.zeros(clips, patches, dtype=torch.bool, device=device).scatter(1, chosen, True)


def _normalised(values: Float[Tensor, "B N V"]) -> Float[Tensor, "B N V"]:
    """Zero mean and unit variance within each patch (He et al. 2022, "normalized pixels")."""
    return (values - values.mean(dim=-1, keepdim=True)) / (values.var(dim=-1, keepdim=True) + 1e-6).sqrt()


def time_code(times: Float[Tensor, "B L"], dim: int) -> Float[Tensor, "B L D"]:
    """Sines and cosines of the time in seconds, with periods from 50 ms to 500 s (Vaswani et al. 2017)."""
    count = (dim + 1) // 2
    periods = 0.05 * 10_000 ** (torch.arange(count, device=times.device) / max(1, count - 1))
    angles = 2 * math.pi * times.float()[..., None] / periods
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :dim]
