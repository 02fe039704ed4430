"""What a comparison finds: a score with its interval for each row, a difference with its test for each pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from mmattn.reports.collect.records import Number
from mmattn.reports.statistics.letters import Pair
from mmattn.reports.statistics.uncertainty import LEAST_SEEDS

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """First row - second row, with its 95 % interval and the p-value of the test, raw and adjusted for all pairs.

    `p`, `adjusted`: None where a row has too few seeds for a test; the interval is then over clips only.
    """

    value: float
    low: float
    high: float
    p: Number = None
    adjusted: Number = None

    @property
    def tested(self) -> bool:
        """Whether both rows have enough seeds for a test."""
        return self.p is not None

    @property
    def differs(self) -> bool:
        """Whether the difference is significant."""
        return self.adjusted is not None and self.adjusted <= ALPHA

    @property
    def reversed(self) -> Difference:
        """Second row - first row."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


@dataclass(frozen=True)
class Estimate:
    """A row's score with its 95 % interval, the letters of its rank group ("": not tested), and each seed's score."""

    value: float
    low: float
    high: float
    letters: str = ""
    seeds: tuple[float, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether the interval is over seeds as well as clips."""
        return len(self.seeds) >= LEAST_SEEDS


@dataclass(frozen=True)
class Comparison:
    """`estimates`: one for each row, None where per-clip scores are missing. `pairs`: of places, the lower first."""

    metric: str
    estimates: tuple[Estimate | None, ...]
    baseline: int
    clips: int = 0  # that all runs share
    videos: int = 0  # that these clips are from
    left_out: int = 0  # clips that only some runs have
    resampled: int = 0
    paired: bool = True  # compared seed by seed
    missing: tuple[Path, ...] = ()  # runs without per-clip scores
    pairs: Mapping[Pair, Difference] = field(default_factory=dict)
    by_run: Mapping[Path, float] = field(default_factory=dict)  # the score of each single run, from its clips

    def difference(self, first: int, second: int) -> Difference | None:
        """Row `first` - row `second`; None where either has no estimate."""
        if (first, second) in self.pairs:
            return self.pairs[first, second]
        found = self.pairs.get((second, first))
        return None if found is None else found.reversed

    @property
    def tested(self) -> bool:
        """Whether any two rows could be tested."""
        return any(pair.tested for pair in self.pairs.values())

    def ordered(self, order: Sequence[int]) -> Comparison:
        """The same with the rows in another order, given as their present places."""
        pairs = {}
        for (i, first), (j, second) in combinations(enumerate(order), 2):
            if (found := self.difference(first, second)) is not None:
                pairs[i, j] = found
        estimates = tuple(self.estimates[place] for place in order)
        return replace(self, estimates=estimates, pairs=pairs, baseline=order.index(self.baseline))
