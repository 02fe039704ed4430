"""Mixup of both modalities (Zhang et al. 2018; audio as in AST, Gong et al. 2021).

Waveforms, frames and targets of two clips are mixed with the same weight.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from mmattn.data.prepare.clips import PaddedClip


def partner(stream: random.Random, index: int, clips: int) -> int | None:
    """A random clip other than the one at `index`; None if there is none."""
    if clips < 2:
        return None
    other = stream.randrange(clips - 1)
    return other + (other >= index)


def can_mix(one: PaddedClip, other: PaddedClip) -> bool:
    """Whether both have the same modalities, so that none is added and every target is seen in both."""
    return bool(one.heard) == bool(other.heard) and bool(one.frame_keep.any()) == bool(other.frame_keep.any())


def mix_clips(one: PaddedClip, other: PaddedClip, share: float) -> PaddedClip:
    """Mix `share` of one with the rest of the other; where only one of them has a frame, it is not mixed."""
    frames = torch.lerp(other.frames.float(), one.frames.float(), share).round_().to(torch.uint8)
    alone, others = one.frame_keep & ~other.frame_keep, other.frame_keep & ~one.frame_keep
    frames[alone], frames[others] = one.frames[alone], other.frames[others]
    return replace(
        one,
        frames=frames,
        frame_keep=one.frame_keep | other.frame_keep,
        frame_times=torch.where(others, other.frame_times, one.frame_times),
        waveform=share * one.waveform + (1 - share) * other.waveform,
        heard=max(one.heard, other.heard),
    )
