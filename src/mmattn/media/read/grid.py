"""Sampling grids: the times, in s, at which frames are read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def uniform_grid(frames: int, start: float, end: float) -> np.ndarray:
    """The centres (T,), s, of `frames` equal bins of [start, end). Empty if the span is empty."""
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    if end <= start:
        return np.zeros(0)
    return start + (np.arange(frames) + 0.5) * ((end - start) / frames)


def fps_grid(fps: float, start: float, end: float) -> np.ndarray:
    """The times start + k/fps (T,), s, in [start, end)."""
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be a positive number, got {fps}")
    if end <= start:
        return np.zeros(0)
    # One more than can fit, then cut: k/fps rounds either way at the end.
    times = start + np.arange(math.ceil((end - start) * fps) + 1) / fps
    return times[times < end]


def given_grid(times: Sequence[float], end: float) -> np.ndarray:
    """The elements of `times` (s, not decreasing) before `end`."""
    grid = np.asarray(times, dtype=np.float64)
    if grid.ndim != 1 or not np.isfinite(grid).all() or (np.diff(grid) < 0).any():
        raise ValueError("times must be a flat sequence of finite numbers that do not decrease")
    return grid[grid < end]
