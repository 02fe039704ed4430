"""A model that knows what it says: bright pictures, loud sounds, day or night, by rule and without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmattn.checkpoint import Checkpoint
from mmattn.data.manifest.labels import TagVocabulary
from mmattn.data.prepare.clips import ClipSpec
from mmattn.encoders.interface import AudioEncoder, VisualEncoder
from mmattn.fusion.interface import Fusion
from mmattn.media.write.video import write_video
from mmattn.model import AVModel
from mmattn.tasks.interface import Task
from mmattn.types import Batch, Fused, Tokens

VOCABULARY = TagVocabulary(("bright", "loud", "red_left", "time/day", "time/night"), ((3, 4),))
CLIP = ClipSpec(seconds=1.0, fps=8.0, height=16, width=16, mels=16)
RATE, FPS = 16000, 16


class Pixels(VisualEncoder):
    """A token a frame: its brightness, and that of red in its left column, from 0 to 1."""

    dim = 2

    def forward(self, batch: Batch) -> Tokens:
        frames = batch.frames.float() / 255
        red = frames[:, :, 0, :, 0].mean(dim=2) - frames[:, :, 2, :, 0].mean(dim=2)
        return Tokens(torch.stack([frames.mean(dim=(2, 3, 4)), red], dim=2), batch.frame_keep, batch.frame_times)


class Loudness(AudioEncoder):
    """A token a row of the spectrogram: 1 where its loudest band is above a quiet room's, else 0."""

    dim = 2

    def forward(self, batch: Batch) -> Tokens:
        loud = (batch.spectrogram.amax(dim=2, keepdim=True) > 0).float().expand(-1, -1, 2)
        return Tokens(loud, batch.spectrogram_keep, batch.spectrogram_times)


class Apart(Fusion):
    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        return Fused(video, audio)


class Rules(Task):
    """Scores are the means over real tokens; by day it is bright."""

    vocabulary = VOCABULARY

    def forward(self, fused: Fused) -> Tensor:
        seen, red = _mean(fused.video).unbind(dim=1)
        heard = _mean(fused.audio)[:, 0]
        return torch.stack([seen, heard, red, seen, 1 - seen], dim=1)

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        return logits


def _mean(tokens: Tokens) -> Tensor:
    keep = tokens.keep[..., None]
    return (tokens.values * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)


def rules(clip: ClipSpec = CLIP, thresholds: dict[str, float] | None = None) -> Checkpoint:
    model = AVModel(Pixels(), Loudness(), Apart(), Rules())
    return Checkpoint(model.eval(), {}, VOCABULARY, clip, {}, thresholds or {})


def write_film(path: Path, seconds: float, bright: tuple[float, float], loud: tuple[float, float]) -> Path:
    """Dark and silent but for the times (s) of its white picture and its tone."""
    times = (np.arange(round(seconds * FPS)) + 0.5) / FPS
    frames = np.zeros((len(times), 32, 32, 3), np.uint8)
    frames[(bright[0] <= times) & (times < bright[1])] = 255
    clock = np.arange(round(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * clock) * ((loud[0] <= clock) & (clock < loud[1]))
    write_video(path, frames, FPS, tone.astype(np.float32))
    return path
