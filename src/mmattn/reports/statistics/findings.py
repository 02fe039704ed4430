"""The summary of a comparison: at most five sentences, all from the same tests."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.reports.collect.records import RunRecord
from mmattn.reports.statistics.bundle import Statistics
from mmattn.reports.statistics.comparison import Comparison
from mmattn.reports.statistics.uncertainty import LEAST_SEEDS
from mmattn.reports.statistics.verdicts import EXPECTED, Finding, families, judge
from mmattn.reports.text import fixed, listing, some
from mmattn.text import counted

NAMED = 3  # rows named in a sentence


def findings(
    runs: Sequence[RunRecord], found: Statistics, scores: Sequence[float | None] = (), name: str = "the score"
) -> list[Finding]:
    """Which row is ahead, in which families, what scores depend on, the effect of noise, and a caution.

    `scores`: each row's score from its evaluation. `name`: the metric's.
    """
    sentences: list[Finding | None] = []
    if len(runs) > 1:
        sentences += [_ranked(runs, found.main, scores, name), _by_family(runs, found)]
    return [each for each in [*sentences, _known_answers(runs), _noise(found), _caution(runs, found.main)] if each]


def _ranked(runs: Sequence[RunRecord], main: Comparison, scores: Sequence[float | None], name: str) -> Finding | None:
    known = [(one.value, place) for place, one in enumerate(main.estimates) if one is not None]
    if len(known) < 2 or len(known) < len(runs):
        return _by_evaluation(runs, main, scores, name)
    best = max(known)[1]
    equal = [place for value, place in known if value == max(known)[0]]
    named = some([runs[place].name for place in equal], NAMED)
    score = f"{named} {'has' if len(equal) == 1 else 'have'} the highest {name}, {_score(main, best)}"
    ahead, like = _against(main, best)
    untested = len(known) - 1 - len(ahead) - len(like)
    if not ahead and not like:
        return Finding(f"{score}; not tested, as a test needs {LEAST_SEEDS} seeds of each row.", "main")
    parts = []
    if ahead:
        parts.append(f"it is ahead of {_names(runs, ahead, len(known) - 1)}")
    if below := [place for place in like if place not in equal]:
        rest = len(known) - len(equal)
        others = "any other row" if len(below) == rest > 1 else _names(runs, below, rest)
        parts.append(f"no difference is shown from {others}")
    if untested:
        parts.append(f"{counted(untested, 'row')} with fewer than {LEAST_SEEDS} seeds could not be tested")
    return Finding(f"{score}{': ' * bool(parts)}{'; '.join(parts)}.", "main")


def _by_evaluation(
    runs: Sequence[RunRecord], main: Comparison, scores: Sequence[float | None], name: str
) -> Finding | None:
    """By the scores of the evaluations, where some rows lack per-clip scores."""
    ranked = sorted(((score, -i) for i, score in enumerate(scores) if score is not None), reverse=True)
    if len(ranked) < 2:
        return Finding(f"Fewer than two rows have {name}, so they cannot be compared.", "main")
    others = listing([f"{runs[-i].name} {fixed(score)}" for score, i in ranked[1 : NAMED + 1]])
    more = f" and {len(ranked) - NAMED - 1} more" if len(ranked) > NAMED + 1 else ""
    text = f"{runs[-ranked[0][1]].name} has the highest {name}, {fixed(ranked[0][0])} ({others}{more}); not tested: "
    return Finding(f"{text}{_why_untested(runs, main, name)}.", "main")


def _why_untested(runs: Sequence[RunRecord], main: Comparison, name: str) -> str:
    if main.missing:
        return f"{counted(len(main.missing), 'run')} without per-clip scores"
    lacking = [run.name for run, one in zip(runs, main.estimates, strict=True) if one is None]
    return f"{name} is not defined for {some(lacking)}" if main.clips else "the rows share no clips"


def _score(main: Comparison, place: int) -> str:
    own = main.estimates[place]
    assert own is not None
    return f"{fixed(own.value)} ({fixed(own.low)} to {fixed(own.high)})"


def _against(main: Comparison, best: int) -> tuple[list[int], list[int]]:
    """The rows that `best` is ahead of, and those from which no difference was found."""
    others = [place for place in range(len(main.estimates)) if place != best]
    tested = [(place, one) for place in others if (one := main.difference(best, place)) is not None and one.tested]
    ahead = [place for place, one in tested if one.differs and one.value > 0]
    return ahead, [place for place, one in tested if not one.differs]


def _names(runs: Sequence[RunRecord], places: Sequence[int], others: int) -> str:
    if len(places) == others > 1:
        return "every other row"
    return some([runs[place].name for place in places], NAMED)


def _by_family(runs: Sequence[RunRecord], found: Statistics) -> Finding | None:
    """Which rows are ahead of others in each family, by its tests."""
    parts, level = [], []
    for family, one in found.families.items():
        known = [(own.value, place) for place, own in enumerate(one.estimates) if own is not None]
        if len(known) < 2 or not one.tested:
            continue
        ahead, _ = _against(one, max(known)[1])
        if not ahead:
            level.append(family)
            continue
        parts.append(f"on {family} tags {runs[max(known)[1]].name} is ahead of {_names(runs, ahead, len(known) - 1)}")
    if not parts and not level:
        return None
    if len(parts) > NAMED:
        parts[NAMED:] = [f"in {len(parts) - NAMED} more families some row is ahead of others"]
    if level:
        parts.append(f"on {some(level)} tags no row is shown to be ahead")
    return Finding(f"By family: {'; '.join(parts)}.")


def _known_answers(runs: Sequence[RunRecord]) -> Finding | None:
    """How many Shapley splits are shown to match the known answer of their families."""
    parts = []
    for family in families(runs):
        judged = [judge(family, own) for run in runs if (own := run.scores.shapley_by_family.get(family)) is not None]
        states = [verdict.state for verdict in judged if verdict is not None and verdict.state != "undefined"]
        if family in EXPECTED and states:
            wrong = f", {states.count('fail')} against it" if "fail" in states else ""
            parts.append(f"{family} {states.count('pass')} of {len(states)}{wrong}")
    if not parts:
        return None
    return Finding(f"Rows whose Shapley split is shown to match the known answer: {'; '.join(parts)}.")


def _noise(found: Statistics) -> Finding | None:
    """Whether the picture's share rises as the sound gets noisier."""
    tested = [trend for trend in found.trends if trend.adjusted is not None]
    if not tested:
        return None
    parts = [f"{word} in {count} of {len(tested)}" for word in ("rises", "falls")
            if (count := sum(trend.words == word for trend in tested))]  # fmt: skip
    return Finding(f"As the sound gets noisier, the picture's share {' and '.join(parts) or 'shows no trend'}"
                   f"{' tests' if parts else ''}.")  # fmt: skip


def _caution(runs: Sequence[RunRecord], main: Comparison) -> Finding:
    clips, splits = {run.scores.clips for run in runs}, {run.scores.split for run in runs}
    sources = {tuple(sorted(i for i in run.config.items() if i[0].startswith("data.source."))) for run in runs}
    tags = {tuple(sorted(run.scores.by_tag)) for run in runs}
    parts = []
    if max(map(len, (clips, splits, sources, tags))) > 1:
        parts.append("the rows were not scored on the same clips and tags, so their scores are not comparable")
    films = f" of {main.videos} videos" if main.videos and main.videos < main.clips else ""
    parts.append(f"scores are from {min(clips)} {'/'.join(sorted(splits))} clips{films}")
    if not main.tested and len(runs) > 1:
        parts.append("another seed of training may change the order")
    if splits == {"val"}:
        parts.append("the epoch shown was chosen on these clips, so scores are slightly optimistic")
    text = "; ".join(parts)
    return Finding(f"{text[0].upper()}{text[1:]}.", "caution")
