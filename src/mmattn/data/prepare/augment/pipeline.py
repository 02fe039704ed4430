"""Augmentation, deterministic in (seed, epoch, index) in any process.

speed -> mixup -> time shift and noise of the waveform -> spectrogram -> video -> loudness and masks -> modality
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

    def target(self, index: int) -> Tensor:
        """The target (K,) of a clip."""
        ...


@dataclass(frozen=True)
class Augment:
    """Augmentation in training. With everything at 0, nothing is changed.

    speed: the clip is played up to this much faster or slower (0.1: 0.9 to 1.1, in steps of 1/20), with its pitch.
    modality_dropout: probability for each modality to be removed (never both); Shapley's subsets rely on it.
    mixup: probability to be mixed with another clip of the split, weighted by Beta(mixup_alpha, mixup_alpha). A clip
    whose partner has other modalities, or cannot be read, is not changed.
    """

    modality_dropout: float = 0.0
    mixup: float = 0.0
    mixup_alpha: float = 10.0
    picture: PictureAugment = field(default_factory=PictureAugment)
    sound: SoundAugment = field(default_factory=SoundAugment)
    speed: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.modality_dropout <= 0.5:
            raise ValueError(f"data.augment.modality_dropout must be 0 to 0.5, got {self.modality_dropout}")
        if not 0 <= self.speed <= 0.5:
            raise ValueError(f"data.augment.speed must be 0 to 0.5, got {self.speed}")
        if not 0 <= self.mixup <= 1:
            raise ValueError(f"data.augment.mixup must be a probability, 0 to 1, got {self.mixup}")
        if not self.mixup_alpha > 0:
            raise ValueError(f"data.augment.mixup_alpha must be above 0, got {self.mixup_alpha}")

    @property
    def needs_waveform(self) -> bool:
        """Whether it needs a PaddedClip; otherwise a Sample is enough, which can be cached instead."""
        return bool(self.mixup or self.speed) or self.sound.needs_waveform

    def __call__(
        self, clip: PaddedClip | Sample, target: Tensor, key: Key, spec: ClipSpec, clips: LabelledClips
    ) -> tuple[Sample, Tensor]:
        """The augmented clip and target. The arguments are not changed."""
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
            return sample  # a clip with one modality keeps it
        if draw < self.modality_dropout:
            return without_audio(sample)
        if draw < 2 * self.modality_dropout:
            return without_video(sample)
        return sample


def without_audio(sample: Sample) -> Sample:
    """`sample` with its audio marked as missing."""
    return replace(sample, spectrogram_keep=torch.zeros_like(sample.spectrogram_keep))


def without_video(sample: Sample) -> Sample:
    """`sample` with its video marked as missing."""
    return replace(sample, frame_keep=torch.zeros_like(sample.frame_keep))
