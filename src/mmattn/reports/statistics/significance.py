"""Which differences between rows are more than chance: every pair of rows tested, over seeds and clips.

All rows are scored on the same draws of clips, so an easy or hard set of clips is the same for all. Intervals and
p-values are those of uncertainty.py. Two rows differ where Holm's test over all pairs rejects at 5 %. Rows with fewer
than three seeds are not tested: their intervals are over clips only (percentiles of the draws, corrected for their
bias, as clips drawn twice are ranked together and raise average precision) and do not cover another seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from mmattn.metrics.bootstrap import interval
from mmattn.reports.statistics.comparison import Comparison, Difference, Estimate
from mmattn.reports.statistics.letters import Pair, holm, rank_letters
from mmattn.reports.statistics.scored import Scored
from mmattn.reports.statistics.uncertainty import LEAST_SEEDS, Values, of_difference, of_mean, seeds_act_alike


def compare(scored: Scored, metric: str, baseline: int = 0) -> Comparison:
    """Estimate `metric` (see measures.Measures) for each row; test all pairs. Raises UsageError for an unknown one."""
    count = len(scored.groups)
    nothing = Comparison(metric, (None,) * count, baseline, missing=scored.missing, left_out=scored.left_out)
    if scored.draws is None or scored.draws.videos < 2:
        return nothing
    rows, videos = scored.values(metric), scored.draws.effective
    seeds = {place: [str(run.seed) for run in scored.groups[place].runs] for place in rows}
    pairs, paired = differences(rows, seeds, videos)
    letters = _letters(rows, pairs)
    return replace(
        nothing,
        estimates=tuple(
            _estimate(rows[i], videos, letters[i], metric.startswith(("mAP", "accuracy"))) if i in rows else None
            for i in range(count)
        ),
        clips=scored.clips,
        videos=scored.draws.videos,
        resampled=scored.draws.number,
        paired=paired,
        pairs=pairs,
        by_run={
            run.path: float(score)
            for place, values in rows.items()
            for run, score in zip(scored.groups[place].runs, values[0], strict=True)
        },
    )


def differences(
    rows: Mapping[int, Values], seeds: Mapping[int, Sequence[str]], videos: float
) -> tuple[dict[Pair, Difference], bool]:
    """The differences of all pairs, and whether they were compared seed by seed.

    `seeds`: each row's seed numbers. `videos`: see Draws.effective.
    """
    paired = _act_alike(rows, seeds)
    found: dict[Pair, Difference] = {}
    for i, j in combinations(sorted(rows), 2):
        if min(len(seeds[i]), len(seeds[j])) < LEAST_SEEDS:
            drawn = rows[i].mean(axis=1) - rows[j].mean(axis=1)
            found[i, j] = Difference(float(drawn[0]), *_over_clips(drawn))
            continue
        shared = [seed for seed in seeds[i] if seed in seeds[j]]
        if paired and len(shared) >= LEAST_SEEDS:
            ours, theirs = (_of_seeds(rows[place], seeds[place], shared) for place in (i, j))
            known = of_mean(ours - theirs, videos)
        else:
            known = of_difference(rows[i], rows[j], videos)
        found[i, j] = Difference(known.value, *known.interval(), p=known.p)
    adjusted = holm({pair: each.p for pair, each in found.items() if each.p is not None})
    return {pair: replace(each, adjusted=adjusted.get(pair)) for pair, each in found.items()}, paired


def _act_alike(rows: Mapping[int, Values], seeds: Mapping[int, Sequence[str]]) -> bool:
    """`seeds_act_alike` on the seeds that all rows with enough of them share."""
    tested = [place for place in rows if len(seeds[place]) >= LEAST_SEEDS]
    if not tested:
        return False
    shared = [seed for seed in seeds[tested[0]] if all(seed in seeds[place] for place in tested)]
    if len(shared) < LEAST_SEEDS:
        return False
    return seeds_act_alike(np.stack([_of_seeds(rows[place], seeds[place], shared)[0] for place in tested]))


def _of_seeds(values: Values, own: Sequence[str], wanted: Sequence[str]) -> Values:
    return values[:, [list(own).index(seed) for seed in wanted]]


def _letters(rows: Mapping[int, Values], pairs: Mapping[Pair, Difference]) -> dict[int, str]:
    """The letters of the rows that were tested; "" for the others."""
    tested = {place for pair, each in pairs.items() if each.tested for place in pair}
    order = sorted(tested, key=lambda place: -float(rows[place][0].mean()))
    rank = {place: number for number, place in enumerate(order)}
    different = [sorted((rank[i], rank[j])) for (i, j), each in pairs.items() if each.differs]
    letters = rank_letters(len(order), {(better, worse) for better, worse in different})
    return dict.fromkeys(rows, "") | dict(zip(order, letters, strict=True))


def _estimate(values: Values, videos: float, letters: str, is_share: bool) -> Estimate:
    """A row's score with its interval; of a share (`is_share`) within 0 to 1."""
    known = of_mean(values, videos)
    low, high = known.interval() if values.shape[1] >= LEAST_SEEDS else _over_clips(values.mean(axis=1))
    if is_share:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(known.value, low, high, letters, tuple(map(float, values[0])))


def _over_clips(drawn: np.ndarray) -> tuple[float, float]:
    """The 95 % interval around the first value, which is that of the clips as they are."""
    if len(drawn) < 3:
        return math.nan, math.nan
    low, high = interval(torch.from_numpy(drawn[1:] - np.nanmean(drawn[1:]) + drawn[0]))
    return low, high
