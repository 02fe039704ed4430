"""The heat of an explained file as pixels: over its pictures and over its spectrogram."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from mmattn.reports.explain.explained import Explained, Steps

HOT, AGAINST = (255, 176, 0), (60, 90, 220)


def heat_of(steps: Steps, attention: bool) -> torch.Tensor:
    """Heat of the first tag (S, P): causal, or attention relative to an even share minus 1 (0.5: half as much again).

    Attention is never 0, so its share itself would colour all places alike.
    """
    if not attention or steps.looked is None:
        return steps.causal[0]
    looked = steps.looked[0]
    return (looked / looked.mean().clamp(min=1e-12) - 1).clamp(min=0.0)


def hottest(found: Explained, attention: bool) -> float:
    """The value of full colour: the highest of any token; of attention 1, which is twice an even share."""
    if attention:
        return 1.0
    hot = [float(heat_of(s, False).abs().max()) for w in found.windows for s in w.streams.values()]
    return max(hot, default=0.0)


def blend(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) under heat (H, W) in [-1, 1]: warm where it supports the tag, blue where it opposes it."""
    share = 0.65 * np.abs(np.clip(heat, -1, 1))[..., None]
    colour = np.where(heat[..., None] >= 0, np.array(HOT, np.float32), np.array(AGAINST, np.float32))
    return (picture * (1 - share) + colour * share).astype(np.uint8)


def nearest_step(steps: Steps, time: float) -> int:
    """The step whose instant is nearest to `time`."""
    return int((steps.times - time).abs().argmin())


def spread(places: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Values (P,) of places, row by row, as an image (H, W) in [-1, 1]; their mean everywhere unless P is a square."""
    side = round(len(places) ** 0.5)
    grid = places.view(1, 1, side, side) if side * side == len(places) else places.mean().view(1, 1, 1, 1)
    return interpolate(grid.float(), size, mode="bilinear", align_corners=False)[0, 0].clamp(-1, 1).numpy()


def spectrum(rows: torch.Tensor, height: int) -> np.ndarray:
    """A spectrogram (F, M) as a grey image (height, F) uint8, low bands at the bottom."""
    low, high = float(rows.min()), float(rows.max())
    grey = ((rows - low) / max(high - low, 1e-6) * 200).to(torch.uint8).numpy().T[::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((grey.shape[1], height)))
