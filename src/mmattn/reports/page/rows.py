"""The rows of a comparison as plain values, for the page's tables, compare.json and the CSVs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmattn.reports.collect.cost import Cost
from mmattn.reports.collect.groups import Group, mean_of
from mmattn.reports.collect.noise import Noise
from mmattn.reports.collect.records import Number, RunRecord
from mmattn.reports.page.browsed import BrowsedClip
from mmattn.reports.statistics.bundle import Statistics
from mmattn.reports.statistics.comparison import Comparison
from mmattn.reports.statistics.verdicts import families, lean

Row = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """Costs, seconds of training and evaluations in noise, by the path of the run."""

    costs: Mapping[str, Cost]
    seconds: Mapping[str, float | None]
    noise: Mapping[str, Sequence[Noise]]


def group_rows(groups: Sequence[Group], found: Statistics, facts: Facts) -> list[Row]:
    """A row for each group: its choices, its score with interval and rank, its costs and weightings."""
    rows, main = [], found.main
    for place, (group, estimate) in enumerate(zip(groups, main.estimates, strict=True)):
        delta = None if place == main.baseline else main.difference(place, main.baseline)
        row: Row = {
            "name": group.name,
            "fusion": group.fusion,
            "attention": group.attention,
            "seeds": [run.seed for run in group.runs],
            "runs": [str(run.path) for run in group.runs],
            "metric": main.metric,
            "score": score_of(group.mean, main, place),
            "low": estimate and estimate.low,
            "high": estimate and estimate.high,
            "interval_over_seeds": estimate and estimate.tested,
            "rank": estimate and estimate.letters,
            "delta": delta and delta.value,
            "delta_low": delta and delta.low,
            "delta_high": delta and delta.high,
            "p_adjusted": delta and delta.adjusted,
            "differs_from_baseline": delta and delta.differs,
        }
        rows.append(row | _costs(group, facts) | weightings(group.mean))
    return rows


def score_of(run: RunRecord, comparison: Comparison, place: int) -> Number:
    """A row's score from its clips, or from its evaluation where per-clip scores are missing."""
    estimate = comparison.estimates[place]
    return plain_score(run, comparison.metric) if estimate is None else estimate.value


def pair_rows(groups: Sequence[Group], found: Statistics) -> list[Row]:
    """A row for each test: metric, the two rows, their difference, p raw and adjusted (Holm, within the metric)."""
    named = {found.main.metric: found.main, **{f"mAP/{name}": one for name, one in found.families.items()}}
    named |= found.weightings
    return [
        {"metric": metric, "first": groups[i].name, "second": groups[j].name, "difference": pair.value,
         "low": pair.low, "high": pair.high, "p": pair.p, "p_adjusted": pair.adjusted, "differs": pair.differs,
         "paired_by_seed": comparison.paired if pair.tested else None}
        for metric, comparison in named.items()
        for (i, j), pair in comparison.pairs.items()
    ]  # fmt: skip


def weighting_rows(groups: Sequence[Group], found: Statistics) -> list[Row]:
    """A row for each group and weighting, with its interval and letters."""
    return [
        {"name": group.name, "weighting": metric, "value": own.value, "low": own.low, "high": own.high,
         "interval_over_seeds": own.tested, "rank": own.letters}
        for metric, comparison in found.weightings.items()
        for group, own in zip(groups, comparison.estimates, strict=True)
        if own is not None
    ]  # fmt: skip


def run_rows(groups: Sequence[Group], metric: str, facts: Facts) -> list[Row]:
    """A row for each single run."""
    rows = []
    for group in groups:
        for run in group.runs:
            row: Row = {"name": run.name, "group": group.name, "path": str(run.path), "seed": run.seed}
            row |= {"metric": metric, "score": plain_score(run, metric), "epoch": run.scores.epoch}
            row |= {"split": run.scores.split, "clips": run.scores.clips}
            rows.append(row | _costs(Group(run.name, (run,), run), facts) | weightings(run))
    return rows


def plain_score(run: RunRecord, metric: str) -> Number:
    """A metric from the run's evaluation."""
    kind, _, family = metric.partition("/")
    if kind == "mAP":
        return run.scores.by_family.get(family) if family else run.scores.mean
    if kind in ("shapley", "permutation"):
        return _weighting(run, kind, *family.partition("/")[::2])
    if metric == "attention":
        return lean(run.scores.heads) if run.scores.heads else None
    return run.scores.mean_accuracy if metric == "accuracy" else run.scores.captions.get(metric)


def _weighting(run: RunRecord, kind: str, part: str, name: str) -> Number:
    scores = run.scores
    if kind == "permutation":
        return None if name else scores.permutation.get(part)
    split = {**scores.shapley_by_tag, **scores.shapley_by_family}.get(name) if name else scores.shapley
    if split is None or part != "balance":
        return None if split is None else getattr(split, part, None)
    return None if split.audio is None or split.video is None else split.audio - split.video


def _costs(group: Group, facts: Facts) -> Row:
    """Means over the seeds, which share parameters and operations."""
    paths = [str(run.path) for run in group.runs]
    costs = [cost for path in paths if (cost := facts.costs.get(path))]
    gpus = [cost.gpu for cost in costs if cost.gpu]
    known = costs if len(costs) == len(paths) else []
    on_gpu = gpus if len(gpus) == len(paths) else []
    return {
        "parameters": group.mean.weights,
        "flops": known[0].flops if known else None,
        "latency_ms": mean_of([cost.time.ms for cost in known]),
        "latency_low": min((cost.time.low for cost in known), default=None),
        "latency_high": max((cost.time.high for cost in known), default=None),
        "gpu_ms": mean_of([gpu.time.ms for gpu in on_gpu]),
        "gpu_low": min((gpu.time.low for gpu in on_gpu), default=None),
        "gpu_high": max((gpu.time.high for gpu in on_gpu), default=None),
        "gpu_peak_bytes": on_gpu[0].peak_bytes if on_gpu else None,
        "peak_bytes": known[0].peak_bytes if known else None,
        "training_s": mean_of([facts.seconds.get(path) for path in paths]),
    }


def weightings(run: RunRecord) -> Row:
    """The descriptive, causal and training weightings of a run."""
    split = run.scores.shapley
    return {
        "looks_at_sound": lean(run.scores.heads) if run.scores.heads else None,  # descriptive: mean log-ratio
        "shapley_picture": split.video,  # causal
        "shapley_sound": split.audio,
        "shapley_synergy": split.synergy,
        "permutation_picture": run.scores.permutation.get("video"),
        "permutation_sound": run.scores.permutation.get("audio"),
        "gradient_share_sound": run.scores.gradient_share.get("audio"),  # training
        "v_neither": split.value.get("none"),  # robustness
        "v_picture": split.value.get("video"),
        "v_sound": split.value.get("audio"),
        "v_both": split.value.get("both"),
    }


def family_rows(groups: Sequence[Group]) -> list[Row]:
    """A row for each group and family (and all tags): score, its split and the scores it is computed from."""
    rows = []
    for group in groups:
        scores = group.mean.scores
        named = [("all", scores.mean, scores.shapley)]
        named += [(f, scores.by_family.get(f), scores.shapley_by_family.get(f)) for f in families([group.mean])]
        rows += [{"name": group.name, "family": family, **_split_row(score, split)} for family, score, split in named]
    return rows


def tag_rows(groups: Sequence[Group]) -> list[Row]:
    """A row for each group and tag, as `family_rows`."""
    rows = []
    for group in groups:
        scores = group.mean.scores
        for tag, score in scores.by_tag.items():
            row: Row = {"name": group.name, "tag": tag, "family": group.mean.families.get(tag)}
            rows.append(row | _split_row(score, scores.shapley_by_tag.get(tag)))
    return rows


def _split_row(score: Number, split: Any) -> Row:
    value = split.value if split else {}
    row = {"score": score, **{part: getattr(split, part) if split else None for part in ("video", "audio", "synergy")}}
    return row | {f"v_{subset}": value.get(subset) for subset in ("none", "video", "audio", "both")}


def head_rows(groups: Sequence[Group]) -> list[Row]:
    """A row for each group and attention head."""
    return [{"name": group.name, **vars(head)} for group in groups for head in group.mean.scores.heads]


def curve_rows(groups: Sequence[Group]) -> list[Row]:
    """A row for each run, metric and epoch."""
    return [
        {"name": run.name, "group": group.name, "metric": metric, "epoch": epoch, "value": value}
        for group in groups
        for run in group.runs
        for metric, points in run.curves.items()
        for epoch, value in points
    ]


def noise_rows(groups: Sequence[Group], facts: Facts) -> list[Row]:
    """A row for each run and evaluation in noise."""
    return [
        {"name": run.name, "group": group.name, **vars(noise)}
        for group in groups
        for run in group.runs
        for noise in facts.noise.get(str(run.path), ())
    ]


def length_rows(groups: Sequence[Group], facts: Facts) -> list[Row]:
    """Operations and memory over the length of the clip."""
    return [
        {"name": group.name, **vars(length)}
        for group in groups
        if (cost := facts.costs.get(str(group.runs[0].path)))
        for length in cost.lengths
    ]


def sample_rows(clips: Sequence[BrowsedClip]) -> list[Row]:
    """A row for each clip on which runs disagree and each group shown for it."""
    return [
        {"id": clip.id, "spread": clip.spread, "tags": list(clip.tags), "name": one.name, "score": one.score,
         "video": one.video, "audio": one.audio, "synergy": one.synergy,
         "caption": " ".join(word.text for word in one.caption) or None}
        for clip in clips
        for one in clip.rows
    ]  # fmt: skip
