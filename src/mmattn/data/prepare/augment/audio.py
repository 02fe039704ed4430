"""Augmentation of the audio: noise and time shifts of the waveform, gain and masks of the spectrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmattn.data.prepare.augment.noise import Clips, add_noise, make_noise
from mmattn.data.prepare.augment.noise_kinds import KINDS, NoiseKind
from mmattn.data.prepare.clips import PaddedClip, Sample
from mmattn.data.prepare.keys import Key
from mmattn.data.prepare.mel import FrontEnd


@dataclass(frozen=True)
class SoundAugment:
    """Augmentation of audio, in this order; with everything at 0, nothing is changed.

    time_shift_s: the audio is moved by up to this against the video, padded with silence and cut at the clip's ends.
    noise: probability of noise of the kind `noise_kind` ("white", "pink", or "babble" of four other clips of the split)
    at a signal-to-noise ratio drawn from `snr_db`, [lowest, highest]. `easy_epochs`: over this many epochs the lowest
    ratio decreases from the highest to its value (a curriculum, Bengio et al. 2009).
    gain_db: loudness varies by up to this.
    masks: the number of time spans and mel ranges that are set to the mean (SpecAugment, Park et al. 2019);
    time_mask_s, mel_mask: the longest of each, in seconds and bands.
    """

    time_shift_s: float = 0.0
    noise: float = 0.0
    noise_kind: NoiseKind = "babble"
    snr_db: Sequence[float] = (-10.0, 20.0)
    gain_db: float = 0.0
    masks: int = 0
    time_mask_s: float = 0.0
    mel_mask: int = 0
    easy_epochs: int = 0

    def __post_init__(self) -> None:
        for name in ("time_shift_s", "noise", "easy_epochs", "gain_db", "masks", "time_mask_s", "mel_mask"):
            value, most = getattr(self, name), 1 if name == "noise" else math.inf
            if not 0 <= value <= most:
                expected = "0 to 1" if most == 1 else "0 or more"
                raise ValueError(f"data.augment.sound.{name} must be {expected}, got {value}")
        if self.noise_kind not in KINDS:
            kinds = ", ".join(KINDS)
            raise ValueError(f"data.augment.sound.noise_kind must be one of {kinds}, got {self.noise_kind!r}")
        if len(self.snr_db) != 2 or not -math.inf < self.snr_db[0] <= self.snr_db[1] < math.inf:
            raise ValueError(f"data.augment.sound.snr_db must be [lowest, highest], got {list(self.snr_db)}")

    @property
    def needs_waveform(self) -> bool:
        """Whether a waveform is needed."""
        return bool(self.time_shift_s or self.noise)

    def snr_range(self, epoch: int) -> tuple[float, float]:
        """The lowest and highest ratio in an epoch, dB."""
        lowest, highest = self.snr_db
        done = min(1.0, epoch / self.easy_epochs) if self.easy_epochs else 1.0
        return highest + (lowest - highest) * done, highest

    def on_waveform(self, clip: PaddedClip, key: Key, sample_rate: int, clips: Clips) -> PaddedClip:
        """The clip with its audio shifted and noise added; missing audio stays missing."""
        if not clip.heard:
            return clip
        if self.time_shift_s:
            reach = round(self.time_shift_s * sample_rate)
            clip = replace(clip, waveform=_shifted(clip, key.stream("time_shift").randint(-reach, reach)))
        if self.noise:
            stream = key.stream("noise")
            wanted, snr_db = stream.random() < self.noise, stream.uniform(*self.snr_range(key.epoch))
            if wanted:
                noise = make_noise(self.noise_kind, len(clip.waveform), stream, key, clips)
                clip = replace(clip, waveform=add_noise(clip, noise, snr_db))
        return clip

    def on_spectrogram(self, sample: Sample, key: Key, front_end: FrontEnd) -> Tensor:
        """The augmented spectrogram (F, M); padding and missing audio stay at the floor."""
        spectrogram, keep = sample.spectrogram, sample.spectrogram_keep
        if not keep.any():
            return spectrogram
        if self.gain_db:
            spectrogram = front_end.louder(spectrogram, self._gain(key))
        if self.masks:
            rows = int(keep.sum())
            real = self._masked(spectrogram[:rows], key, front_end.hop / front_end.sample_rate)
            spectrogram = torch.cat([real, spectrogram[rows:]])
        return spectrogram

    def gained(self, sample: Sample, key: Key) -> Tensor:
        """The waveform, where the sample has it, with the spectrogram's gain; it has no masks."""
        return sample.waveform * 10 ** (self._gain(key) / 20) if self.gain_db and sample.heard else sample.waveform

    def _gain(self, key: Key) -> float:
        """The gain of this draw, in dB."""
        return key.stream("gain").uniform(-self.gain_db, self.gain_db)

    def _masked(self, spectrogram: Tensor, key: Key, hop_s: float) -> Tensor:
        stream = key.stream("masks")
        spectrogram, mean = spectrogram.clone(), spectrogram.mean()
        length, mels = spectrogram.shape
        for _ in range(self.masks):
            width = min(length, int(stream.uniform(0, self.time_mask_s) / hop_s))
            at = stream.randint(0, length - width)
            spectrogram[at : at + width] = mean
            width = stream.randint(0, min(mels, self.mel_mask))
            at = stream.randint(0, mels - width)
            spectrogram[:, at : at + width] = mean
        return spectrogram


def _shifted(clip: PaddedClip, by: int) -> Tensor:
    """The waveform moved by `by` samples within the length of the clip's audio."""
    shifted = torch.zeros_like(clip.waveform)
    sound = clip.waveform[max(0, -by) : max(0, clip.heard - max(0, by))]
    shifted[max(0, by) : max(0, by) + len(sound)] = sound
    return shifted
