"""Noise at a wanted signal-to-noise ratio: white, pink, or babble of other clips.

The ratio is 10 log10 of the sound's power over the noise's, both means of squares over all the time the clip is heard.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.data.prepare.clips import PaddedClip
from mmattn.data.prepare.keys import Key

NoiseKind = Literal["white", "pink", "babble"]
KINDS: tuple[NoiseKind, ...] = ("white", "pink", "babble")
VOICES = 4  # other clips that babble at once
SPARE = 8  # further clips that are tried in place of unreadable and soundless ones
ROLL = (1 / 6, 5 / 6)  # of a clip's length: 0.5 to 2.5 s of the 3 s of GRID's sentences


class Clips(Protocol):
    """The clips of a split, from which partners are drawn."""

    def __len__(self) -> int: ...

    def other(self, epoch: int, index: int) -> PaddedClip | None:
        """The clip as that epoch shows it; None when it cannot be read."""
        ...


def add_noise(clip: PaddedClip, noise: Float[Tensor, " N"], snr_db: float) -> Float[Tensor, " N"]:
    """The clip's waveform with the noise in it, as far as it is heard. Silence on either side: as it was."""
    signal, noise = clip.waveform[: clip.heard].double(), noise[: clip.heard].double()
    power, noise_power = signal.square().mean(), noise.square().mean()
    if not (clip.heard and power > 0 and noise_power > 0):
        return clip.waveform
    noisy = clip.waveform.clone()
    noisy[: clip.heard] = (signal + noise * (power / noise_power * 10 ** (-snr_db / 10)).sqrt()).float()
    return noisy


def make_noise(kind: NoiseKind, samples: int, stream: random.Random, key: Key, clips: Clips) -> Tensor:
    """Noise (N,) of no particular power for the clip of `key`. Babble without any other sound is silence."""
    if kind == "babble":
        return _babble(samples, stream, _others(stream, key, clips))
    white = torch.randn(samples, generator=torch.Generator().manual_seed(stream.getrandbits(63)))
    return white if kind == "white" else _pink(white)


def _pink(white: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Power falls with frequency: 3 dB an octave. No constant part."""
    spectrum = torch.fft.rfft(white)
    steps = torch.arange(len(spectrum)).clamp(min=1)
    spectrum[0] = 0
    return torch.fft.irfft(spectrum / steps.sqrt(), n=len(white))


def _babble(samples: int, stream: random.Random, others: Iterator[PaddedClip]) -> Float[Tensor, " N"]:
    """The sum of some clips, each rolled in time; a shorter one is repeated."""
    total = torch.zeros(samples)
    for clip in islice(others, VOICES):
        voice = clip.waveform[: clip.heard].repeat(-(-samples // clip.heard))[:samples]
        total += voice.roll(round(stream.uniform(*ROLL) * samples))
    return total


def _others(stream: random.Random, key: Key, clips: Clips) -> Iterator[PaddedClip]:
    """Different other clips that have sound, in random order."""
    for index in stream.sample(range(len(clips)), min(len(clips), VOICES + SPARE)):
        clip = clips.other(key.epoch, index) if index != key.index else None
        if clip is not None and clip.heard:
            yield clip
