"""The page about several runs, and beside it everything that it shows as JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.progress import log
from mmattn.reports.collect.cost import Cost, measure_costs, read_cost
from mmattn.reports.collect.groups import Group, group_runs
from mmattn.reports.collect.metrics import training_seconds
from mmattn.reports.collect.noise import noise_sweep
from mmattn.reports.collect.predictions import Prediction, read_predictions, spread
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page.browsed import browser
from mmattn.reports.page.content import Example, Page
from mmattn.reports.page.export import write_tables
from mmattn.reports.page.options import PLAIN, Options
from mmattn.reports.page.render import render
from mmattn.reports.page.rows import Facts, plain_score, score_of
from mmattn.reports.page.thumbnails import thumbnails
from mmattn.reports.statistics.bundle import Statistics, statistics, with_intervals
from mmattn.reports.statistics.comparison import Comparison
from mmattn.reports.statistics.fairness import factors_of

EXAMPLES = 12
FEW = 6  # more rows than these are ordered by score
_SAME = 0.002  # mAP; the same model on other hardware differs by less
_DEADLINE_S = 20.0  # for the pictures of one example


def write_report(
    runs: Sequence[Path],
    predictions: Path | None,
    out: Path,
    title: str = "Sound and picture: runs compared",
    notes: Sequence[str] = (),
    options: Options = PLAIN,
) -> Path:
    """Write the page about `runs` at `out`, whole or not at all, and its tables beside it as JSON and CSV.

    `predictions`: a predictions.jsonl to show examples from. `notes`: sentences at the top. Raises UsageError.
    """
    page = _page(runs, options)
    page = replace(page, title=title, notes=[*notes, *page.notes], out=str(out))
    if predictions is not None:
        good, bad = read_predictions(predictions)
        examples = _examples(spread(good, EXAMPLES))
        page = replace(page, predictions=str(predictions), files_read=len(good), examples=examples, failures=bad)
    html = render(page)
    try:
        write_tables(out, page)
        write_atomically(out, html)
    except OSError as error:
        raise UsageError(f"out={out}: cannot be written ({error.strerror}); name another file") from None
    return out


def _page(runs: Sequence[Path], options: Options) -> Page:
    """What the page shows of the runs themselves."""
    groups = group_runs(collect_runs(runs))
    found = statistics(groups, options.metric or _metric(groups), _baseline(groups, options.baseline))
    facts, not_measured = _facts(groups, options.measure)
    groups, found = _ordered(with_intervals(groups, found), found)
    return Page(
        groups=groups,
        found=found,
        facts=facts,
        factors=factors_of(groups, options.factors),
        notes=[*_other_models(groups, found.main), *not_measured],
        browser=browser(groups, options.samples),
        refresh_s=options.refresh_s,
    )


def _metric(groups: Sequence[Group]) -> str:
    captions = groups[0].mean.scores.mean is None and "cider_d" in groups[0].mean.scores.captions
    return "cider_d" if captions else "mAP"


def _baseline(groups: Sequence[Group], name: str | None) -> int:
    if name is None:
        return 0
    for place, group in enumerate(groups):
        if name in (group.name, *(run.name for run in group.runs), *(str(run.path) for run in group.runs)):
            return place
    known = ", ".join(group.name for group in groups[:12])
    raise UsageError(f"baseline={name}: no such row; choose from {known}")


def _other_models(groups: Sequence[Group], comparison: Comparison) -> list[str]:
    """Notes on runs whose per-clip scores were made with another model than the evaluation that is shown."""
    found = []
    for run in (run for group in groups for run in group.runs):
        evaluated, from_clips = plain_score(run, comparison.metric), comparison.by_run.get(run.path)
        whole = comparison.clips == run.scores.clips and comparison.metric.startswith("mAP")
        if whole and evaluated is not None and from_clips is not None and abs(evaluated - from_clips) > _SAME:
            text = f"{run.name}: its evaluation has {evaluated:.3f}, its per-clip scores give {from_clips:.3f}"
            found.append(f"{text}, so they are of different models; evaluate the run again.")
    return found


def _facts(groups: Sequence[Group], measure: str) -> tuple[Facts, list[str]]:
    """What runs cost, and notes on those whose cost cannot be measured."""
    paths = [run.path for group in groups for run in group.runs]
    if measure == "none":
        found: list[Cost | str | None] = [read_cost(path) for path in paths]
    else:
        found = list(measure_costs(paths, log, again=measure == "all"))
    costs = {str(path): cost for path, cost in zip(paths, found, strict=True) if isinstance(cost, Cost)}
    failed = [
        f"{path}: cost not measured ({why})" for path, why in zip(paths, found, strict=True) if isinstance(why, str)
    ]
    seconds = {str(path): training_seconds(path) for path in paths}
    return Facts(costs, seconds, {str(path): noise_sweep(path) for path in paths}), failed


def _ordered(groups: list[Group], found: Statistics) -> tuple[list[Group], Statistics]:
    """More than a few rows are shown best first."""
    if len(groups) <= FEW:
        return groups, found

    def key(place: int) -> float:
        score = score_of(groups[place].mean, found.main, place)
        return math.inf if score is None else -score

    order = sorted(range(len(groups)), key=key)
    return [groups[place] for place in order], found.ordered(order)


def _examples(predictions: Sequence[Prediction]) -> list[Example]:
    if not predictions:
        return []
    with IsolatedReader(deadline_s=_DEADLINE_S, follow_symlinks=True) as reader:
        return [Example(one, thumbnails(one.path, one.span, reader.read)) for one in predictions]
