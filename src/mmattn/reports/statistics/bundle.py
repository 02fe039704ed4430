"""All tests of a comparison: the score in its main column, mAP by family, the weightings, the trend in noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.records import RunRecord, Split
from mmattn.reports.statistics.comparison import Comparison, Estimate
from mmattn.reports.statistics.scored import Scored
from mmattn.reports.statistics.significance import compare
from mmattn.reports.statistics.trend import Trend, trends
from mmattn.reports.statistics.verdicts import families

PARTS = ("video", "audio", "synergy")


@dataclass(frozen=True)
class Statistics:
    """`families`: mAP by family; `weightings`: by metric, such as shapley/audio; `splits`: shapley by PART/FAMILY."""

    main: Comparison
    families: Mapping[str, Comparison] = field(default_factory=dict)
    weightings: Mapping[str, Comparison] = field(default_factory=dict)
    splits: Mapping[str, Comparison] = field(default_factory=dict)
    trends: Sequence[Trend] = ()

    def ordered(self, order: Sequence[int]) -> Statistics:
        """The same with the rows in another order, given as their present places."""
        moved = [replace(trend, place=list(order).index(trend.place)) for trend in self.trends]
        return Statistics(
            self.main.ordered(order),
            *({k: v.ordered(order) for k, v in each.items()} for each in (self.families, self.weightings, self.splits)),
            trends=sorted(moved, key=lambda trend: trend.place),
        )

    def weighting(self, metric: str, place: int) -> Estimate | None:
        """A weighting of the row at `place`; None where it was not measured."""
        found = self.weightings.get(metric)
        return None if found is None else found.estimates[place]


def statistics(groups: Sequence[Group], metric: str, baseline: int = 0) -> Statistics:
    """Test all that the runs kept. Raises UsageError for a metric that they lack, or a damaged file."""
    scored = Scored(groups)
    main = compare(scored, metric, baseline)
    if scored.draws is None:
        return Statistics(main, trends=trends(groups))
    named = [family for family in families([group.mean for group in groups]) if scored.has_family(family)]
    tagged = bool(scored.weightings())
    return Statistics(
        main,
        {family: compare(scored, f"mAP/{family}", baseline) for family in named if tagged},
        {weighting: compare(scored, weighting, baseline) for weighting in scored.weightings()},
        {f"{part}/{family}": compare(scored, f"shapley/{part}/{family}", baseline)
         for family in named for part in PARTS if tagged},
        trends(groups),
    )  # fmt: skip


def with_intervals(groups: Sequence[Group], found: Statistics) -> list[Group]:
    """The rows with an interval for each part of their Shapley splits, over seeds where there are enough."""
    return [replace(group, mean=_known(group.mean, place, found)) for place, group in enumerate(groups)]


def _known(run: RunRecord, place: int, found: Statistics) -> RunRecord:
    scores = run.scores
    whole = _split(scores.shapley, {part: found.weighting(f"shapley/{part}", place) for part in PARTS})
    by_family = {
        family: _split(split, {part: known.estimates[place] for part in PARTS
                               if (known := found.splits.get(f"{part}/{family}")) is not None})
        for family, split in scores.shapley_by_family.items()
    }  # fmt: skip
    return replace(run, scores=replace(scores, shapley=whole, shapley_by_family=by_family))


def _split(split: Split, estimates: Mapping[str, Estimate | None]) -> Split:
    own = {part: (known.low, known.high) for part, known in estimates.items() if known is not None}
    return replace(split, interval=own or split.interval)
