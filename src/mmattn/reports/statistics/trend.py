"""Does the video's share of the Shapley split rise as the audio gets noisier? A slope for each row, and its test.

A seed's slope is that of the least-squares line through its shares over loudness. The test is that of uncertainty.py,
over seeds, and over clips where the per-clip scores in noise were kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.noise import Noise, noise_sweep
from mmattn.reports.collect.records import Number
from mmattn.reports.statistics.comparison import ALPHA
from mmattn.reports.statistics.draws import draw
from mmattn.reports.statistics.letters import holm
from mmattn.reports.statistics.measures import Measures
from mmattn.reports.statistics.uncertainty import LEAST_SEEDS, Values, of_mean
from mmattn.weighting.clip_scores import load_clip_scores

_DRAWS = 200
_STEP_DB = 10.0


@dataclass(frozen=True)
class Trend:
    """How much a row's video share (0 to 1) rises with each 10 dB of noise, with its 95 % interval.

    `low`, `high`, `p`, `adjusted` (for all rows): None with too few seeds for a test.
    """

    place: int
    name: str
    split: str
    kind: str
    loudnesses: int
    slope: float
    low: Number = None
    high: Number = None
    p: Number = None
    adjusted: Number = None

    @property
    def words(self) -> str:
        """The result as the page shows it."""
        if self.adjusted is None:
            return f"not tested: fewer than {LEAST_SEEDS} seeds"
        if self.adjusted > ALPHA:
            return "no trend shown"
        return "rises" if self.slope > 0 else "falls"


def trends(groups: Sequence[Group]) -> list[Trend]:
    """A trend for each row and kind of noise with at least three loudnesses that all its seeds share."""
    found = [trend for place, group in enumerate(groups) for trend in _of_row(place, group)]
    adjusted = holm({(i, 0): trend.p for i, trend in enumerate(found) if trend.p is not None})
    return [replace(trend, adjusted=adjusted.get((i, 0))) for i, trend in enumerate(found)]


def _of_row(place: int, group: Group) -> list[Trend]:
    sweeps = [noise_sweep(run.path) for run in group.runs]
    kinds = sorted({(one.split, one.kind) for sweep in sweeps for one in sweep})
    found = []
    for split, kind in kinds:
        own = [{one.snr_db: one for one in sweep if (one.split, one.kind) == (split, kind)} for sweep in sweeps]
        shared = sorted(set.intersection(*map(set, own)))
        if len(shared) < 3:
            continue
        plain = [[share_of(each[snr]) for snr in shared] for each in own]
        values, videos = _drawn([run.path for run in group.runs], split, kind, shared)
        if values is None:
            values, videos = np.array([[_slope(shared, np.array([shares]))[0] for shares in plain]]), 0
        if np.isnan(values[0]).any():
            continue
        known = of_mean(values, videos)
        trend = Trend(place, group.name, split, kind, len(shared), known.value)
        if len(group.runs) >= LEAST_SEEDS:
            low, high = known.interval()
            trend = replace(trend, low=low, high=high, p=known.p)
        found.append(trend)
    return found


def share_of(noise: Noise) -> float:
    """The video's share of what both modalities add; NaN where they add nothing."""
    if noise.video is None or noise.audio is None or noise.video + noise.audio <= 0:
        return float("nan")
    return noise.video / (noise.video + noise.audio)


def _slope(snr_db: Sequence[float], shares: np.ndarray) -> np.ndarray:
    """For each row of shares (R, loudnesses) the slope per 10 dB of noise."""
    louder = -np.asarray(snr_db) / _STEP_DB
    louder = louder - louder.mean()
    return shares @ louder / float((louder**2).sum())


def _drawn(runs: Sequence[Path], split: str, kind: str, snr_db: Sequence[float]) -> tuple[Values | None, float]:
    """The slopes of each seed on each draw of clips, and Draws.effective; None without all per-clip scores.

    Raises UsageError for a damaged file.
    """
    files = [[run / f"evaluation-{split}-{kind}{snr:+g}dB-scores.safetensors" for snr in snr_db] for run in runs]
    if not all(file.is_file() for own in files for file in own):
        return None, 0
    scores = [[load_clip_scores(file) for file in own] for own in files]
    shared = sorted(set.intersection(*(set(one.ids) for own in scores for one in own)))
    if not shared:
        return None, 0
    draws = draw(scores[0][0].of(shared).videos or shared, _DRAWS)
    slopes = []
    for run, own in zip(runs, scores, strict=True):
        measures = [Measures(one.of(shared), draws, run, split) for one in own]
        video, audio = (torch.stack([one(f"shapley/{part}") for one in measures], dim=1) for part in ("video", "audio"))
        gained = video + audio
        slopes.append(_slope(snr_db, (video / gained.where(gained > 0, torch.nan)).double().numpy()))
    return np.stack(slopes, axis=1), draws.effective
