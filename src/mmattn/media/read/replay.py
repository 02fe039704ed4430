"""A file in chunks at a constant rate, video and audio together, to be drawn on and written again.

Frame k is the one shown in its middle, at (k + 0.5) / fps. Memory holds a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from mmattn.media.read.request import Request
from mmattn.types import Clip

_PIECE_S = 4.0


@dataclass(frozen=True)
class ReplayChunk:
    """`times` (T,), s, the middle of each frame; `frames` (T, H, W, 3) uint8 or None; `samples` (N,) float32 or None.

    There are fewer frames than times where the video ends before the audio.
    """

    times: list[float]
    frames: np.ndarray | None
    samples: np.ndarray | None


def replay(
    path: Path,
    read: Callable[[Path, Request], Clip],
    fps: Fraction | float,
    end: float,
    size: tuple[int, int] | None,
    rate: int | None,
) -> Iterator[ReplayChunk]:
    """Yield the file from 0 to `end` s, without gap or overlap. `read` is IsolatedReader.read, or works as it does.

    `size` (height, width): None leaves the frames out; `rate` in Hz: None leaves the audio out. Raises MediaError.
    """
    fps = float(fps)
    count = max(1, round(end * fps))
    step = max(1, round(_PIECE_S * fps))
    for first in range(0, count, step):
        times = [(k + 0.5) / fps for k in range(first, min(first + step, count))]
        low, high = first / fps, min(first + step, count) / fps
        request = Request(
            times=times if size else None,
            video=size is not None,
            start=low,
            end=high,
            size=size,
            audio_rate=rate,
            audio=rate is not None,
        )
        clip = read(path, request)
        frames = None if clip.frames is None else clip.frames.permute(0, 2, 3, 1).numpy()
        yield ReplayChunk(
            times, frames, None if rate is None else _placed(clip.waveform, clip.audio_start, low, high, rate)
        )


def even_size(shown: tuple[int, int], tall: int) -> tuple[int, int]:
    """(height, width) in the shape of `shown`, about `tall` high, both even, at most four times as wide as high."""
    height, width = shown
    wide = max(2, round(width * tall / height / 2) * 2)
    if wide <= 4 * tall:
        return tall - tall % 2, wide
    return max(2, round(height * 4 * tall / width / 2) * 2), 4 * tall


def _placed(waveform: torch.Tensor | None, begins: float, low: float, high: float, rate: int) -> np.ndarray:
    """The samples of [low, high) s, zeros where there are none."""
    first, last = round(low * rate), round(high * rate)
    samples = np.zeros(last - first, np.float32)
    if waveform is not None:
        at = round(begins * rate) - first
        part = waveform.numpy()[max(0, -at) :][: max(0, len(samples) - max(0, at))]
        samples[max(0, at) : max(0, at) + len(part)] = part
    return samples
