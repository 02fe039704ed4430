"""Small clips to augment, and a split of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.clips import ClipSpec, PaddedClip, Sample
from mmattn.data.prepare.keys import Key
from mmattn.data.prepare.mel import LogMel

SPEC = ClipSpec(seconds=0.5, fps=8.0, height=12, width=16, sample_rate=8000, mels=12)
FLOOR = LogMel.floor
TAGS = 5


def make_clip(index: int, seed: int = 5) -> PaddedClip:
    """Half a second of noise and random pictures; the last frame and the last tenth of the sound are padding."""
    generator = torch.Generator().manual_seed(seed + index)
    frames = torch.randint(1, 256, (4, 3, 12, 16), generator=generator, dtype=torch.uint8)
    frames[3] = 0
    waveform = 0.1 * torch.randn(4000, generator=generator)
    waveform[3600:] = 0
    return PaddedClip(frames, torch.arange(4) < 3, (torch.arange(4) + 0.5) / 8, waveform, 3600)


def soundless(clip: PaddedClip) -> PaddedClip:
    return replace(clip, waveform=torch.zeros_like(clip.waveform), heard=0)


def pictureless(clip: PaddedClip) -> PaddedClip:
    return replace(clip, frames=torch.zeros_like(clip.frames), frame_keep=torch.zeros(4, dtype=torch.bool))


@dataclass
class Split:
    """A split of clips; None cannot be read."""

    clips: list[PaddedClip | None]

    def __len__(self) -> int:
        return len(self.clips)

    def other(self, epoch: int, index: int) -> PaddedClip | None:
        return self.clips[index]

    def target(self, index: int) -> Tensor:
        return torch.eye(TAGS)[index % TAGS]


SPLIT = Split([make_clip(index) for index in range(9)])


def apply(augment: Augment, key: Key, clip: PaddedClip | None = None, split: Split = SPLIT) -> tuple[Sample, Tensor]:
    return augment(clip or make_clip(key.index), split.target(key.index), key, SPEC, split)


def same(one: object, other: object) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def tensors(record: object) -> list[Tensor]:
    return [torch.as_tensor(getattr(record, field.name)) for field in fields(record)]  # type: ignore[arg-type]
