"""The uncertainty of a row's score, or of the difference of two rows, over seeds and clips.

A score varies with the seed of training and with the clips. Both variances are estimated, the first from S seeds
(S - 1 degrees of freedom), the second from draws of clips from V videos (V - 1). The interval's half width is

    sqrt(t1^2 * variance of the mean over seeds + t2^2 * variance over clips)

with t1, t2 Student's quantiles for the degrees of freedom of each. It has at least its nominal coverage, whatever the
ratio of the two variances (Banerjee 1961), and is the t-interval where one of them is 0, so three seeds give t with 2
degrees of freedom. A normal distribution, or a single number of degrees of freedom for the sum (Satterthwaite's), is
too narrow where few seeds happen to agree. The interaction of seed and clip is part of both variances; it is measured
on the draws (how much each seed deviates from the row's mean) and counted once, with the seeds.

Two rows with the same seeds are compared seed by seed, as in the paired t-test. Where seeds do not raise or lower all
rows together, pairing only loses degrees of freedom; the variances of both rows are then added, with Welch's (1947)
degrees of freedom.

Shape legend: R draws of clips, the first with each clip once; S seeds; G rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import fdtrc, stdtrit

LEAST_SEEDS = 3  # that a test needs
_FEW_ROWS = 3  # with no more rows, whether seeds act on all alike cannot be tested
_ACT_ALIKE = 0.05

Values = Float[np.ndarray, "R S"]


@dataclass(frozen=True)
class Uncertain:
    """A value with its variances over seeds and over clips, each with its degrees of freedom."""

    value: float
    seeds: tuple[float, float]
    clips: tuple[float, float]

    def reach(self, p: float) -> float:
        """Half the width of the interval that misses the true value with probability `p`."""
        parts = [(variance, df) for variance, df in (self.seeds, self.clips) if variance > 0]
        return math.sqrt(sum(float(stdtrit(df, p / 2)) ** 2 * variance for variance, df in parts))

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The lower and upper end of the interval with a coverage of `share`."""
        reach = self.reach(1 - share)
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """The p-value of the two-sided test against 0, at which the interval ends at 0; 1 where nothing is known."""
        size = abs(self.value)
        if not size or math.isnan(size + self.seeds[0] + self.clips[0]):
            return 1.0
        low, high = 1e-12, 1.0
        if self.reach(low) <= size:
            return low
        for _ in range(30):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.reach(middle) > size else (low, middle)
        return high


def of_mean(values: Values, videos: float) -> Uncertain:
    """The mean over seeds of a row's scores, or of the differences of two rows seed by seed."""
    seeds = values.shape[1]
    clips = _over_clips(values.mean(axis=1), _shared(values), videos)
    return Uncertain(float(values[0].mean()), (_over_seeds(values), seeds - 1.0), clips)


def of_difference(ours: Values, theirs: Values, videos: float) -> Uncertain:
    """The difference of the means of two rows with unrelated seeds."""
    value = float(ours[0].mean() - theirs[0].mean())
    each = [(_over_seeds(values), values.shape[1] - 1.0) for values in (ours, theirs)]
    total = sum(variance for variance, _ in each)
    df = total**2 / sum(variance**2 / df for variance, df in each if df) if total else 1.0  # Welch
    clips = _over_clips(ours.mean(axis=1) - theirs.mean(axis=1), _shared(ours) + _shared(theirs), videos)
    return Uncertain(value, (total, df), clips)


def seeds_act_alike(scores: Float[np.ndarray, "G S"]) -> bool:
    """Whether rows rise and fall together from seed to seed, so that they should be compared seed by seed.

    By the F-test of seeds in the two-way layout rows x seeds; assumed for few rows.
    """
    rows, seeds = scores.shape
    if rows <= _FEW_ROWS:
        return True
    by_seed = scores.mean(axis=0) - scores.mean()
    rest = scores - scores.mean(axis=1, keepdims=True) - by_seed
    df = (rows - 1) * (seeds - 1)
    between, within = rows * float((by_seed**2).sum()) / (seeds - 1), float((rest**2).sum()) / df
    return between > 0 and (not within or float(fdtrc(seeds - 1, df, between / within)) < _ACT_ALIKE)


def _over_seeds(values: Values) -> float:
    """The variance of the mean over seeds, on the clips as they are."""
    seeds = values.shape[1]
    return float(values[0].var(ddof=1)) / seeds if seeds > 1 else 0.0


def _over_clips(drawn: Float[np.ndarray, " R"], shared: float, videos: float) -> tuple[float, float]:
    """The variance over clips that is not part of that over seeds, and its degrees of freedom."""
    if len(drawn) < 3 or videos <= 1:
        return 0.0, 1.0
    variance = float(np.nanvar(drawn[1:], ddof=1)) * videos / (videos - 1)
    return max(0.0, variance - shared), 1 / (1 / (videos - 1) + 1 / (len(drawn) - 2))


def _shared(values: Values) -> float:
    """The part of the variance over draws that is due to single seeds, as it remains in the mean over seeds."""
    seeds = values.shape[1]
    if seeds < 2 or len(values) < 3:
        return 0.0
    own = values[1:] - values[1:].mean(axis=1, keepdims=True)
    return float(np.nanvar(own, axis=0, ddof=1).mean()) / (seeds - 1)
