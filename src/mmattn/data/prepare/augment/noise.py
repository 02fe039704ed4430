"""Noise at a given signal-to-noise ratio: white, pink, or babble of other clips.

The ratio is 10 log10 of the signal's power over the noise's, both mean squares over the length of the clip's audio.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.data.prepare.augment.noise_kinds import NoiseKind
from mmattn.data.prepare.clips import PaddedClip
from mmattn.data.prepare.keys import Key

VOICES = 4  # other clips in a babble
SPARE = 8  # further clips that replace unreadable ones and those without audio
ROLL = (1 / 6, 5 / 6)  # of a clip's length: 0.5 to 2.5 s of the 3 s of GRID's sentences


class Clips(Protocol):
    """The clips of a split, from which partners are drawn."""

    def __len__(self) -> int: ...

    def other(self, epoch: int, index: int) -> PaddedClip | None:
        """The clip as in that epoch; None if it cannot be read."""
        ...


def add_noise(clip: PaddedClip, noise: Float[Tensor, " N"], snr_db: float) -> Float[Tensor, " N"]:
    """The clip's waveform (N,) plus noise over the length of its audio. Unchanged if one of them is silent."""
    signal, noise = clip.waveform[: clip.heard].double(), noise[: clip.heard].double()
    power, noise_power = signal.square().mean(), noise.square().mean()
    if not (clip.heard and power > 0 and noise_power > 0):
        return clip.waveform
    noisy = clip.waveform.clone()
    noisy[: clip.heard] = (signal + noise * (power / noise_power * 10 ** (-snr_db / 10)).sqrt()).float()
    return noisy


def make_noise(kind: NoiseKind, samples: int, stream: random.Random, key: Key, clips: Clips) -> Tensor:
    """Noise (N,) of arbitrary power for the clip of `key`. Babble is silence if no other clip has audio."""
    if kind == "babble":
        return _babble(samples, stream, _others(stream, key, clips))
    white = torch.randn(samples, generator=torch.Generator().manual_seed(stream.getrandbits(63)))
    return white if kind == "white" else _pink(white)


def _pink(white: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Filter white noise so that its power falls by 3 dB an octave, without a constant part."""
    spectrum = torch.fft.rfft(white)
    steps = torch.arange(len(spectrum)).clamp(min=1)
    spectrum[0] = 0
    return torch.fft.irfft(spectrum / steps.sqrt(), n=len(white))


def _babble(samples: int, stream: random.Random, others: Iterator[PaddedClip]) -> Float[Tensor, " N"]:
    """The sum of several clips, each rolled in time; shorter ones are repeated."""
    total = torch.zeros(samples)
    for clip in islice(others, VOICES):
        voice = clip.waveform[: clip.heard].repeat(-(-samples // clip.heard))[:samples]
        total += voice.roll(round(stream.uniform(*ROLL) * samples))
    return total


def _others(stream: random.Random, key: Key, clips: Clips) -> Iterator[PaddedClip]:
    """Different other clips with audio, in random order."""
    for index in stream.sample(range(len(clips)), min(len(clips), VOICES + SPARE)):
        clip = clips.other(key.epoch, index) if index != key.index else None
        if clip is not None and clip.heard:
            yield clip
