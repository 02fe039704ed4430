"""Speed perturbation (Ko et al. 2015) of video and audio together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torchaudio import functional

from mmattn.data.prepare.clips import PaddedClip

STEPS = 20  # speeds are multiples of 1/20: the resampler's filters stay short


def at_speed(clip: PaddedClip, speed: float) -> PaddedClip:
    """The clip played from its start at `speed` (1: unchanged), rounded to 1/20, with its pitch.

    A faster clip ends early and is padded, a slower one is cut. Each time gets the frame that was nearest to it.
    """
    steps = round(speed * STEPS)
    if steps == STEPS:
        return clip
    return replace(_video_at(clip, steps / STEPS), **_audio_at(clip, steps))


def _video_at(clip: PaddedClip, speed: float) -> PaddedClip:
    count = int(clip.frame_keep.sum())
    if count < 2:  # a still
        return clip
    times = clip.frame_times[:count]
    wanted = clip.frame_times * speed
    source = (wanted[:, None] - times).abs().argmin(dim=1)
    keep = wanted <= times[-1] + (times[-1] - times[0]) / (count - 1) / 2
    frames = clip.frames[source] * keep[:, None, None, None]
    return replace(clip, frames=frames, frame_keep=keep)


def _audio_at(clip: PaddedClip, steps: int) -> dict[str, torch.Tensor | int]:
    if not clip.heard:
        return {}
    sound = functional.resample(clip.waveform[: clip.heard], steps, STEPS)[: len(clip.waveform)]
    waveform = torch.zeros_like(clip.waveform)
    waveform[: len(sound)] = sound
    return {"waveform": waveform, "heard": len(sound)}
