"""Augmentation of a prepared sample, deterministic in (seed, epoch, index) whatever process does it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmattn.data.transforms import FLOOR, SPREAD_DB, Sample


@dataclass(frozen=True)
class Augment:
    """What training varies. Everything at 0 changes nothing.

    modality_dropout: chance for each modality to be taken away (never both); what Shapley's subsets rely on.
    gain_db: loudness varies by up to this. shift_px: the picture moves by up to this, the same in all frames.
    masks: how many stretches of time and of mel bands are masked (SpecAugment, Park et al. 2019); time_mask_s,
    mel_mask: the longest of each, in seconds and bands.
    """

    modality_dropout: float = 0.0
    gain_db: float = 0.0
    shift_px: int = 0
    masks: int = 0
    time_mask_s: float = 0.0
    mel_mask: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout <= 0.5:
            raise ValueError(f"modality_dropout is the chance for each of two, 0 to 0.5, got {self.modality_dropout}")

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        sample = replace(sample, frames=self._shift(sample.frames, generator))
        hop_s = float(sample.spectrogram_times[1] - sample.spectrogram_times[0]) if len(sample.spectrogram) > 1 else 1.0
        gain = _uniform(generator, -1, 1) * self.gain_db / SPREAD_DB
        heard = sample.spectrogram > FLOOR  # silence stays silence, however loud
        spectrogram = torch.where(heard, (sample.spectrogram + gain).clamp(min=FLOOR), sample.spectrogram)
        spectrogram = self._mask(spectrogram, sample.spectrogram_keep, hop_s, generator)
        return self._drop(replace(sample, spectrogram=spectrogram), generator)

    def _shift(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        if not self.shift_px:
            return frames
        reach = self.shift_px
        dy, dx = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
        height, width = frames.shape[-2:]
        padded = pad(frames.float(), (reach,) * 4, mode="replicate").to(torch.uint8)
        return padded[..., dy : dy + height, dx : dx + width]

    def _mask(self, spectrogram: Tensor, keep: Tensor, hop_s: float, generator: torch.Generator) -> Tensor:
        if not self.masks:
            return spectrogram
        spectrogram = spectrogram.clone()
        mean = spectrogram[keep].mean() if keep.any() else spectrogram.mean()
        length, mels = spectrogram.shape
        for _ in range(self.masks):
            width = int(_uniform(generator, 0, self.time_mask_s) / hop_s)
            at = int(_uniform(generator, 0, max(1, length - width)))
            spectrogram[at : at + width] = mean
            width = int(_uniform(generator, 0, self.mel_mask + 1))
            at = int(_uniform(generator, 0, max(1, mels - width)))
            spectrogram[:, at : at + width] = mean
        return spectrogram

    def _drop(self, sample: Sample, generator: torch.Generator) -> Sample:
        draw = _uniform(generator, 0, 1)
        if not (sample.frame_keep.any() and sample.spectrogram_keep.any()):
            return sample  # what it lacks already is not taken twice
        if draw < self.modality_dropout:
            return without_audio(sample)
        if draw < 2 * self.modality_dropout:
            return without_video(sample)
        return sample


def without_audio(sample: Sample) -> Sample:
    return replace(sample, spectrogram_keep=torch.zeros_like(sample.spectrogram_keep))


def without_video(sample: Sample) -> Sample:
    return replace(sample, frame_keep=torch.zeros_like(sample.frame_keep))


def keyed_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """A random stream that depends on its key alone: resuming, ranks and workers cannot change it."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
