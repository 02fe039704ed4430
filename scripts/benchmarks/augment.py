"""What each stage and augmentation of a clip costs, in ms of processor time: `python scripts/benchmarks/augment.py`

One thread; the median of rounds in which the cases take turns, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from statistics import median

import torch

from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import ClipSpec, PaddedClip
from mmattn.data.prepare.keys import Key
from mmattn.types import Clip

SIZES = {
    "3 s, 24 frames of 48 x 48": ClipSpec(),
    "10 s, 16 frames of 224 x 224": ClipSpec(seconds=10.0, fps=1.6, height=224, width=224, mels=128),
}
PICTURES = {
    "crop": PictureAugment(crop=0.9, crop_aspect=0.33),
    "flip": PictureAugment(flip=1.0),
    "shift_px": PictureAugment(shift_px=3),
    "brightness": PictureAugment(brightness=0.4),
    "contrast": PictureAugment(contrast=0.4),
    "saturation": PictureAugment(saturation=0.4),
    "hue": PictureAugment(hue=0.1),
    "grey": PictureAugment(grey=1.0),
    "erase": PictureAugment(erase=1.0),
}
ON_WAVEFORM = {
    "time_shift_s": SoundAugment(time_shift_s=0.1),
    "noise white": SoundAugment(noise=1.0, noise_kind="white"),
    "noise pink": SoundAugment(noise=1.0, noise_kind="pink"),
    "noise babble, the voices in memory": SoundAugment(noise=1.0),
}
ON_SPECTROGRAM = {
    "gain_db": SoundAugment(gain_db=6.0),
    "masks": SoundAugment(masks=2, time_mask_s=0.3, mel_mask=8),
}


class Split:
    """Random clips in memory."""

    def __init__(self, spec: ClipSpec, clips: int = 12) -> None:
        self.clips = [spec.pad(_decoded(spec)) for _ in range(clips)]

    def __len__(self) -> int:
        return len(self.clips)

    def other(self, epoch: int, index: int) -> PaddedClip:
        return self.clips[index]

    def target(self, index: int) -> torch.Tensor:
        return torch.zeros(10)


def _decoded(spec: ClipSpec) -> Clip:
    frames = torch.randint(0, 256, (spec.frame_count, 3, spec.height, spec.width), dtype=torch.uint8)
    times = torch.tensor(spec.times(0, spec.seconds), dtype=torch.float64)
    return Clip(frames, times, 0.1 * torch.randn(spec.samples), spec.sample_rate, 0.0, "", (0.0, spec.seconds))


def cases(spec: ClipSpec) -> dict[str, Callable[[Key], object]]:
    decoded, split, kaldi = _decoded(spec), Split(spec), replace(spec, spectrogram="kaldi")
    clip, target = split.clips[0], split.target(0)
    sample = spec.finish(clip)
    demo = Augment(0.1, picture=PictureAugment(shift_px=2), sound=SoundAugment(gain_db=3.0))
    found: dict[str, Callable[[Key], object]] = {
        "pad": lambda key: spec.pad(decoded),
        "finish, log_mel": lambda key: spec.finish(clip),
        "finish, kaldi": lambda key: kaldi.finish(clip),
    }
    for name, picture in PICTURES.items():
        found[name] = lambda key, picture=picture: picture(clip.frames, clip.frame_keep, key)
    for name, sound in ON_WAVEFORM.items():
        found[name] = lambda key, sound=sound: sound.on_waveform(clip, key, spec.sample_rate, split)
    for name, sound in ON_SPECTROGRAM.items():
        found[name] = lambda key, sound=sound: sound.on_spectrogram(sample, key, spec.front_end)
    mixup = Augment(mixup=1.0)
    found["mixup, with its spectrogram"] = lambda key: mixup(clip, target, key, spec, split)
    found["modality_dropout"] = lambda key: Augment(modality_dropout=0.5)(sample, target, key, spec, split)
    found["AVShapes' defaults, from a spectrogram"] = lambda key: demo(sample, target, key, spec, split)
    found["AVShapes' defaults, from a waveform"] = lambda key: demo(clip, target, key, spec, split)
    return found


def measure(spec: ClipSpec, rounds: int) -> dict[str, float]:
    """Case -> ms."""
    times: dict[str, list[float]] = {}
    measured = cases(spec)
    for number in range(rounds + 1):
        for name, case in measured.items():
            begin = time.process_time_ns()
            for index in range(5):
                case(Key(0, number, 0, index))
            if number:  # the first round warms up
                times.setdefault(name, []).append((time.process_time_ns() - begin) / 5e6)
    return {name: median(values) for name, values in times.items()}


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    found = {size: measure(spec, rounds) for size, spec in SIZES.items()}
    print(f"| ms a clip | {' | '.join(SIZES)} |\n|---|{'---|' * len(SIZES)}")
    for name in next(iter(found.values())):
        print(f"| {name} | {' | '.join(f'{times[name]:.2f}' for times in found.values())} |")
    kept = {}
    for spec in SIZES.values():
        clip = Split(spec, 1).clips[0]
        for record in (spec.finish(clip), clip):
            size = sum(torch.as_tensor(getattr(record, field.name)).nbytes for field in fields(record))
            kept.setdefault(type(record).__name__, []).append(f"{size / 1000:.0f}")
    for name, sizes in kept.items():
        print(f"| kB of a {name} in memory | {' | '.join(sizes)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
