"""docs/augment.png: one AVShapes clip as read and augmented. `python scripts/augment_picture.py [OUT]`"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from mmattn.config.compose import build, compose
from mmattn.data.manifest.rows import read_manifest
from mmattn.data.prepare.augment.audio import SoundAugment
from mmattn.data.prepare.augment.pipeline import Augment
from mmattn.data.prepare.augment.video import PictureAugment
from mmattn.data.prepare.clips import ClipSpec, PaddedClip, Sample
from mmattn.data.prepare.keys import Key

ROWS = {
    "as read": Augment(),
    "crop, flip / noise: babble at 0 dB": Augment(
        picture=PictureAugment(crop=0.6, crop_aspect=0.3, flip=1.0), sound=SoundAugment(noise=1.0, snr_db=(0, 0))
    ),
    "brightness, contrast, hue / time shift": Augment(
        picture=PictureAugment(brightness=0.4, contrast=0.4, hue=0.4), sound=SoundAugment(time_shift_s=0.8)
    ),
    "erase / masks": Augment(
        picture=PictureAugment(erase=1.0), sound=SoundAugment(masks=2, time_mask_s=0.4, mel_mask=10)
    ),
    "mixup": Augment(mixup=1.0),
}
KEY = Key(seed=3, epoch=4, index=0)
SHOWN, SIDE, GAP, TEXT = (2, 8, 14, 20), 96, 6, 15  # frames of a clip; pixels
COLOURS = np.array([[8, 8, 30], [60, 20, 110], [180, 55, 95], [250, 140, 40], [252, 250, 190]])  # floor to loudest


class Split:
    """The first clips of AVShapes, in memory."""

    def __init__(self, paths: list[Path], spec: ClipSpec) -> None:
        self.clips = [spec.pad(spec.read(path)) for path in paths]

    def __len__(self) -> int:
        return len(self.clips)

    def other(self, epoch: int, index: int) -> PaddedClip:
        return self.clips[index]

    def target(self, index: int) -> torch.Tensor:
        return torch.zeros(1)


def strip(sample: Sample) -> np.ndarray:
    """Some frames and the log-mel, side by side: (SIDE, width, 3) uint8."""
    frames = [sample.frames[i].permute(1, 2, 0).numpy() for i in SHOWN]
    loudness = ((sample.spectrogram.T.flip(0).numpy() + 2) / 4).clip(0, 1)
    places = np.linspace(0, 1, len(COLOURS))
    mel = np.stack([np.interp(loudness, places, COLOURS[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)
    mel = np.asarray(Image.fromarray(mel).resize((len(sample.spectrogram), SIDE), Image.Resampling.NEAREST))
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    return np.concatenate([part for frame in (*frames, mel) for part in (frame, gap)][:-1], axis=1)


def main(out: Path) -> None:
    data = compose("train", ["data=avshapes", f"data.clip.height={SIDE}", f"data.clip.width={SIDE}"])["data"]
    spec: ClipSpec = build(data["clip"])
    split = Split([row.path for row in read_manifest(Path(data["root"]) / "manifest.jsonl")[:8]], spec)
    strips = {
        name: strip(augment(split.clips[0], torch.zeros(1), KEY, spec, split)[0]) for name, augment in ROWS.items()
    }
    width = next(iter(strips.values())).shape[1]
    page = Image.new("RGB", (width, len(strips) * (TEXT + SIDE + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=11)
    for number, (name, picture) in enumerate(strips.items()):
        top = number * (TEXT + SIDE + GAP)
        pen.text((0, top), name, fill="black", font=font)
        page.paste(Image.fromarray(picture), (0, top + TEXT))
    page.quantize(64).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/augment.png"))
