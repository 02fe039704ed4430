"""What training varies in the sound: noise and time shifts of the waveform, loudness and masks of the spectrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmattn.data.prepare.augment.noise import KINDS, Clips, NoiseKind, add_noise, make_noise
from mmattn.data.prepare.clips import PaddedClip, Sample
from mmattn.data.prepare.keys import Key
from mmattn.data.prepare.mel import FrontEnd


@dataclass(frozen=True)
class SoundAugment:
    """Everything at 0 changes nothing. In the order in which they are done:

    time_shift_s: sound moves by up to this against the picture; silence comes in, what leaves the clip is lost.
    noise: chance of noise of the kind `noise_kind` ("white", "pink", or "babble" of four other clips of the split), at
    a signal-to-noise ratio drawn from `snr_db`, its lowest and highest. `easy_epochs`: the lowest begins at the highest
    and comes down over so many epochs (a curriculum, Bengio et al. 2009).
    gain_db: loudness varies by up to this.
    masks: how many stretches of time and of mel bands are set to the mean (SpecAugment, Park et al. 2019);
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
                raise ValueError(f"data.augment.sound.{name} is {'0 to 1' if most == 1 else '0 or more'}, got {value}")
        if self.noise_kind not in KINDS:
            raise ValueError(f"data.augment.sound.noise_kind is one of {', '.join(KINDS)}, got {self.noise_kind!r}")
        if len(self.snr_db) != 2 or not -math.inf < self.snr_db[0] <= self.snr_db[1] < math.inf:
            raise ValueError(f"data.augment.sound.snr_db is [lowest, highest], got {list(self.snr_db)}")

    @property
    def needs_waveform(self) -> bool:
        return bool(self.time_shift_s or self.noise)

    def snr_range(self, epoch: int) -> tuple[float, float]:
        """The lowest and the highest ratio in that epoch, dB."""
        lowest, highest = self.snr_db
        done = min(1.0, epoch / self.easy_epochs) if self.easy_epochs else 1.0
        return highest + (lowest - highest) * done, highest

    def on_waveform(self, clip: PaddedClip, key: Key, sample_rate: int, clips: Clips) -> PaddedClip:
        """Missing sound stays missing."""
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
        """New rows (F, M); those of padding, and missing sound, stay at the floor."""
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
        """The waveform, where the sample keeps it, as loud as the spectrogram. Masks are for spectrograms alone."""
        return sample.waveform * 10 ** (self._gain(key) / 20) if self.gain_db and sample.heard else sample.waveform

    def _gain(self, key: Key) -> float:
        """dB."""
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
    """Moved within the time that is heard."""
    shifted = torch.zeros_like(clip.waveform)
    sound = clip.waveform[max(0, -by) : max(0, clip.heard - max(0, by))]
    shifted[max(0, by) : max(0, by) + len(sound)] = sound
    return shifted
