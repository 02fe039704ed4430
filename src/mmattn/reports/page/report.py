"""The page about several runs, and beside it all that it shows as JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.progress import say
from mmattn.reports.collect.cost import Cost, measure_costs, read_cost
from mmattn.reports.collect.groups import Group, group_runs
from mmattn.reports.collect.noise import noise_sweep, training_seconds
from mmattn.reports.collect.predictions import Failure, Prediction, read_predictions, spread
from mmattn.reports.collect.runs import collect_runs
from mmattn.reports.page import rows as table
from mmattn.reports.page.disagreements import disagreements
from mmattn.reports.page.export import write_tables
from mmattn.reports.page.render import Example, Page, render
from mmattn.reports.page.thumbnails import thumbnails
from mmattn.reports.statistics.bundle import Statistics, statistics, with_intervals
from mmattn.reports.statistics.comparison import Comparison
from mmattn.reports.statistics.fairness import factors_of, fairness

EXAMPLES = 12
FEW = 6  # rows from here on are ordered by score
_SAME = 0.002  # mAP; the same model on other hardware stays below
_DEADLINE_S = 20.0  # for the pictures of one example


@dataclass(frozen=True)
class Options:
    """How runs are compared. `metric`: see measures.Measures; None: mAP, or CIDEr-D without tags.

    `baseline`: the name of a row or run; None: the first. `factors`: parts of the config that are compared; None:
    those of fusion and attention that differ. `measure`: "missing", the costs that are not known yet; "all",
    again; "none". `samples`: clips on which runs disagree. `refresh_s`: the page loads itself again after so long.
    """

    metric: str | None = None
    baseline: str | None = None
    factors: tuple[str, ...] | None = None
    measure: str = "none"
    samples: int = 0
    refresh_s: float | None = None


def write_report(
    runs: Sequence[Path],
    predictions: Path | None,
    out: Path,
    title: str = "Sound and picture: runs compared",
    notes: Sequence[str] = (),
    options: Options = Options(),
) -> Path:
    """Write the page about `runs` (with examples from a predictions.jsonl) at `out`, whole or not at all, and beside it
    all that it shows as JSON and CSV.

    `notes` are sentences shown at the top. Raises UsageError as `compare` does.
    """
    groups = group_runs(collect_runs(runs))
    found = statistics(groups, options.metric or _metric(groups), _baseline(groups, options.baseline))
    good: list[Prediction] = []
    bad: list[Failure] = []
    if predictions is not None:
        good, bad = read_predictions(predictions)
    facts, troubles = _facts(groups, options.measure)
    groups, found = _ordered(with_intervals(groups, found), found)
    page = Page(
        title=title,
        groups=groups,
        found=found,
        facts=facts,
        factors=factors_of(groups, options.factors),
        notes=[*notes, *_other_models(groups, found.main), *troubles],
        samples=disagreements(groups, options.samples),
        predictions=None if predictions is None else str(predictions),
        files_read=len(good),
        examples=_examples(spread(good, EXAMPLES)),
        failures=bad,
        out=str(out),
        refresh_s=options.refresh_s,
    )
    html = render(page)
    try:
        write_tables(out, *_tables(page))
        write_atomically(out, html)
    except OSError as error:
        raise UsageError(f"out={out}: cannot be written ({error.strerror}); name another file") from None
    return out


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
    raise UsageError(f"baseline={name}: no row is named so; there are {known}")


def _other_models(groups: Sequence[Group], comparison: Comparison) -> list[str]:
    """Runs whose clips' scores are not those of the evaluation that is shown: it was made of another model."""
    found = []
    for run in (run for group in groups for run in group.runs):
        said, from_clips = table.plain_score(run, comparison.metric), comparison.by_run.get(run.path)
        whole = comparison.clips == run.scores.clips and comparison.metric.startswith("mAP")
        if whole and said is not None and from_clips is not None and abs(said - from_clips) > _SAME:
            text = (
                f"{run.name}: its evaluation says {said:.3f}, what each clip scored gives {from_clips:.3f}, so they are"
            )
            found.append(f"{text} of different models; evaluate the run again.")
    return found


def _facts(groups: Sequence[Group], measure: str) -> tuple[table.Facts, list[str]]:
    """What runs cost, and sentences about those whose cost cannot be measured."""
    paths = [run.path for group in groups for run in group.runs]
    if measure == "none":
        found: list[Cost | str | None] = [read_cost(path) for path in paths]
    else:
        found = list(measure_costs(paths, say, again=measure == "all"))
    costs = {str(path): cost for path, cost in zip(paths, found, strict=True) if isinstance(cost, Cost)}
    failed = [f"{path}: cost not measured ({why})" for path, why in zip(paths, found, strict=True)
              if isinstance(why, str)]  # fmt: skip
    seconds = {str(path): training_seconds(path) for path in paths}
    return table.Facts(costs, seconds, {str(path): noise_sweep(path) for path in paths}), failed


def _ordered(groups: list[Group], found: Statistics) -> tuple[list[Group], Statistics]:
    """More than a few rows are shown best first."""
    if len(groups) <= FEW:
        return groups, found

    def key(place: int) -> float:
        score = table.score_of(groups[place].mean, found.main, place)
        return -(score if score is not None else -math.inf)

    order = sorted(range(len(groups)), key=key)
    return [groups[place] for place in order], found.ordered(order)


def _tables(page: Page) -> tuple[dict[str, list[table.Row]], dict[str, Any]]:
    """All that the page shows, and what it is about."""
    groups, comparison, facts = page.groups, page.found.main, page.facts
    tables = {
        "rows": table.group_rows(groups, page.found, facts),
        "runs": table.run_rows(groups, comparison.metric, facts),
        "pairs": table.pair_rows(groups, page.found),
        "weightings": table.weighting_rows(groups, page.found),
        "trends": [asdict(trend) | {"result": trend.words} for trend in page.found.trends],
        "families": table.family_rows(groups),
        "tags": table.tag_rows(groups),
        "heads": table.head_rows(groups),
        "curves": table.curve_rows(groups),
        "noise": table.noise_rows(groups, facts),
        "lengths": table.length_rows(groups, facts),
        "samples": [
            {"id": sample.id, "spread": sample.spread, "tags": list(sample.tags), "name": one.name, "score": one.score,
             "video": one.video, "audio": one.audio, "synergy": one.synergy,
             "caption": " ".join(word.text for word in one.caption) or None}
            for sample in page.samples
            for one in sample.said
        ],
    }  # fmt: skip
    sentences = fairness(groups, page.factors, dict(facts.costs), dict(facts.seconds))
    about = {
        "metric": comparison.metric,
        "split": groups[0].mean.scores.split,
        "clips": comparison.clips,
        "videos": comparison.videos,
        "resampled": comparison.resampled,
        "baseline": groups[comparison.baseline].name,
        "factors": list(page.factors),
        "fairness": [finding.text for finding in sentences],
        "without_clip_scores": [str(path) for path in comparison.missing],
    }
    return tables, about


def _examples(predictions: Sequence[Prediction]) -> list[Example]:
    if not predictions:
        return []
    with IsolatedReader(deadline_s=_DEADLINE_S, follow_symlinks=True) as reader:
        return [Example(one, thumbnails(one.path, one.span, reader.read)) for one in predictions]
