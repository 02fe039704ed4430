"""Mixup of both modalities together (Zhang et al. 2018; sound as AST does it, Gong et al. 2021): waveforms, frames and
targets of two clips, weighed alike.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from mmattn.data.prepare.clips import PaddedClip


def partner(stream: random.Random, index: int, clips: int) -> int | None:
    """Another clip than the one at `index`, each as likely; None when there is none."""
    if clips < 2:
        return None
    other = stream.randrange(clips - 1)
    return other + (other >= index)


def can_mix(one: PaddedClip, other: PaddedClip) -> bool:
    """Whether they have the same modalities. A clip without sound stays without, and no target is only half shown."""
    return bool(one.heard) == bool(other.heard) and bool(one.frame_keep.any()) == bool(other.frame_keep.any())


def mix_clips(one: PaddedClip, other: PaddedClip, share: float) -> PaddedClip:
    """`share` of one and the rest of the other; where only one of them has a frame, that frame as it is."""
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
