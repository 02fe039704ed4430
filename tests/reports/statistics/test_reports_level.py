"""Tests hold their level, with few seeds and many rows, whatever makes scores vary, seeds or clips; and have power.

Scores are simulated as row + seed of the row + clip + clip of the row + clip of the seed, and go through the functions
that `mmattn compare` uses. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

from mmattn.reports.statistics.draws import draw
from mmattn.reports.statistics.significance import differences
from mmattn.reports.statistics.uncertainty import Uncertain, of_mean

VIDEOS, DRAWS, LEVEL = 40, 200, 0.07
SPREADS = {  # standard deviations: of seeds, of clips for all rows alike, for one row, for one seed
    "seeds": (1.0, 1.0, 0.0, 0.5),
    "clips": (0.01, 1.0, 1.0, 0.0),
    "both": (1.0, 1.0, 3.0, 1.0),
}


def simulated(rows: int, seeds: int, spread: tuple[float, ...], better: float, generator: np.random.Generator) -> dict:
    """By row, the mean over clips on each draw of them and for each seed. The first row is `better`."""
    of_seed, of_clip, of_row, own = spread
    scores = of_seed * generator.standard_normal((rows, seeds, 1)) + of_clip * generator.standard_normal(VIDEOS)
    scores += of_row * generator.standard_normal((rows, 1, VIDEOS)) + own * generator.standard_normal(
        (rows, seeds, VIDEOS)
    )
    scores[0] += better
    values = np.einsum("rn,gsn->grs", COUNTS, scores) / VIDEOS
    return dict(enumerate(values))


COUNTS = draw([str(i) for i in range(VIDEOS)], DRAWS).counts.numpy().astype(float)


def differing(rows: int, seeds: int, spread: tuple[float, ...], better: float, number: int) -> list[set]:
    """The pairs that differ significantly in each of so many experiments."""
    generator = np.random.default_rng(rows * 100 + seeds)
    numbers = {row: [str(seed) for seed in range(seeds)] for row in range(rows)}
    found = []
    for _ in range(number):
        values = simulated(rows, seeds, spread, better, generator)
        pairs, _ = differences(values, numbers, VIDEOS)
        found.append({pair for pair, each in pairs.items() if each.differs})
    return found


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("rows", [2, 4, 12])
def test_equal_rows_are_rarely_told_apart(rows: int, seeds: int, spread: str) -> None:
    """The family-wise error: the share of experiments with any false difference."""
    number = {2: 500, 4: 300, 12: 100}[rows]
    false = sum(map(bool, differing(rows, seeds, SPREADS[spread], 0.0, number))) / number
    print(f"{rows} rows x {seeds} seeds, {spread}: family-wise error {false:.3f} of {number}")
    assert false <= LEVEL


@pytest.mark.parametrize("sizes", [[60] + [5] * 11, [1, 1, 2, 2, 3, 3, 5, 8, 13, 21], [4] * 8])
def test_a_few_long_videos_make_no_differences(sizes: list[int]) -> None:
    """Clips of a video are alike: 60 clips of one and 5 of each of eleven others are worth three or four videos."""
    draws = draw([str(video) for video, size in enumerate(sizes) for _ in range(size)], DRAWS)
    counts, generator, number = draws.counts.numpy().astype(float), np.random.default_rng(3), 250
    false = 0
    for _ in range(number):
        clips = [generator.standard_normal(len(sizes)).repeat(sizes) for _ in range(2)]
        scores = [own + 0.01 * generator.standard_normal((3, 1)) + 0.3 * generator.standard_normal(sum(sizes))
                  for own in clips]  # fmt: skip
        values = {row: counts @ own.T / counts.sum(axis=1, keepdims=True) for row, own in enumerate(scores)}
        pairs, _ = differences(values, {row: ["0", "1", "2"] for row in values}, draws.effective)
        false += any(each.differs for each in pairs.values())
    print(f"{len(sizes)} videos worth {draws.effective:.1f}: error {false / number:.3f}")
    assert false / number <= LEVEL


@pytest.mark.parametrize(
    ("rows", "seeds", "better", "least"), [(2, 3, 6.0, 0.8), (2, 5, 3.5, 0.8), (4, 5, 4.0, 0.8), (12, 5, 6.0, 0.8),
                                           (12, 10, 3.0, 0.8)]
)  # fmt: skip
def test_a_real_difference_is_found(rows: int, seeds: int, better: float, least: float) -> None:
    """`better`: in standard deviations over seeds. Power: the share of the pairs with the better row that are found."""
    number = 100 if rows < 12 else 30
    found = differing(rows, seeds, SPREADS["seeds"], better, number)
    power = sum(len([pair for pair in pairs if pair[0] == 0]) for pairs in found) / number / (rows - 1)
    print(f"{rows} rows x {seeds} seeds, {better} standard deviations: power {power:.2f}")
    assert power >= least


def test_where_seeds_alone_vary_it_is_the_t_test() -> None:
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).standard_normal((1, 4)).repeat(50, axis=0)
    expected = ttest_1samp(values[0], 0.0)
    found = of_mean(values, 40)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-5) and found.interval() == pytest.approx((low, high))


def test_an_interval_ends_at_zero_where_p_is_the_rest() -> None:
    known = Uncertain(1.0, (0.1, 2.0), (0.05, 39.0))
    assert known.interval(1 - known.p)[0] == pytest.approx(0.0, abs=1e-6)
    assert known.p > Uncertain(1.0, (0.0, 2.0), (0.15, 39.0)).p, "few degrees of freedom are less sure"
