"""Augmentation, deterministic in (seed, epoch, index) whatever process does it.

speed -> mixup -> time shift and noise of the waveform -> spectrogram -> picture -> loudness and masks -> modality
dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.mix import can_mix, mix_clips, partner
from mmattn.data.prepare.augment.noise import Clips
from mmattn.data.prepare.augment.speed import at_speed
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import ClipSpec, PaddedClip, Sample
from mmattn.data.prepare.keys import Key


class LabelledClips(Clips, Protocol):
    """The clips of a split with their targets."""

    def target(self, index: int) -> Tensor: ...


@dataclass(frozen=True)
class Augment:
    """What training varies. Everything at 0 changes nothing.

    speed: the clip is seen and heard up to this faster or slower (0.1: 0.9 to 1.1, in steps of 1/20), pitch and all.
    modality_dropout: chance for each modality to be taken away (never both); what Shapley's subsets rely on.
    mixup: chance to be mixed with another clip of the split, weighed by Beta(mixup_alpha, mixup_alpha). A clip whose
    partner has other modalities, or cannot be read, stays as it is.
    """

    modality_dropout: float = 0.0
    mixup: float = 0.0
    mixup_alpha: float = 10.0
    picture: PictureAugment = field(default_factory=PictureAugment)
    sound: SoundAugment = field(default_factory=SoundAugment)
    speed: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout <= 0.5:
            raise ValueError(f"data.augment.modality_dropout is for each of two, 0 to 0.5, got {self.modality_dropout}")
        if not 0 <= self.speed <= 0.5:
            raise ValueError(f"data.augment.speed is 0 to 0.5, got {self.speed}")
        if not 0 <= self.mixup <= 1:
            raise ValueError(f"data.augment.mixup is a chance, 0 to 1, got {self.mixup}")
        if not self.mixup_alpha > 0:
            raise ValueError(f"data.augment.mixup_alpha must be above 0, got {self.mixup_alpha}")

    @property
    def needs_waveform(self) -> bool:
        """Whether it works on a PaddedClip; else a Sample is enough, which can be kept in its place."""
        return bool(self.mixup or self.speed) or self.sound.needs_waveform

    def __call__(
        self, clip: PaddedClip | Sample, target: Tensor, key: Key, spec: ClipSpec, clips: LabelledClips
    ) -> tuple[Sample, Tensor]:
        """The clip and its target as training sees them this time. What was given stays as it was."""
        if isinstance(clip, PaddedClip):
            if self.speed:
                clip = at_speed(clip, 1 + key.stream("speed").uniform(-self.speed, self.speed))
            clip, target = self._mix(clip, target, key, clips)
            clip = spec.finish(self.sound.on_waveform(clip, key, spec.sample_rate, clips))
        elif self.needs_waveform:
            raise TypeError("noise, time shifts, speed and mixup work on a PaddedClip, got a Sample")
        clip = replace(
            clip,
            frames=self.picture(clip.frames, clip.frame_keep, key),
            spectrogram=self.sound.on_spectrogram(clip, key, spec.front_end),
            waveform=self.sound.gained(clip, key),
        )
        return self._drop(clip, key), target

    def _mix(self, clip: PaddedClip, target: Tensor, key: Key, clips: LabelledClips) -> tuple[PaddedClip, Tensor]:
        if not self.mixup:
            return clip, target
        stream = key.stream("mixup")
        wanted, share = stream.random() < self.mixup, stream.betavariate(self.mixup_alpha, self.mixup_alpha)
        index = partner(stream, key.index, len(clips))
        if not wanted or index is None:
            return clip, target
        other = clips.other(key.epoch, index)
        if other is None or not can_mix(clip, other):
            return clip, target
        return mix_clips(clip, other, share), share * target + (1 - share) * clips.target(index)

    def _drop(self, sample: Sample, key: Key) -> Sample:
        if not self.modality_dropout:
            return sample
        draw = key.stream("modality_dropout").random()
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
