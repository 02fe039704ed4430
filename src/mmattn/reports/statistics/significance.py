"""Which differences between groups of runs are more than chance: clips and seeds drawn anew, in pairs.

Every group is scored on the same draws of clips (Efron 1979), so what makes a set of clips easy or hard is the same for
all. Seeds are drawn within each group, the same places for groups of as many; with S seeds the spread is widened by
sqrt(S / (S - 1)), as a mean of S draws from S falls short by that (Davison & Hinkley 1997, 2.7). Intervals are
percentiles of the draws, moved by their bias: average precision of a draw is a little high, as clips that are drawn
twice stand together. Two groups differ where Holm's (1979) test over all pairs says so at 5 %, with the normal p-value
of difference / bootstrap error.

Shape legend: R resamples, N clips, K tags, S seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.errors import UsageError
from mmattn.metrics.bootstrap import interval, resampled_average_precision, resamples
from mmattn.metrics.tags import answers
from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.runs import Number
from mmattn.weighting.clip_scores import ClipScores, load_clip_scores

MOST, LEAST = 2000, 200  # resamples
_WORK = 4e9  # resamples x clips x tags x runs that a page may take
ALPHA = 0.05


@dataclass(frozen=True)
class Estimate:
    """A group's score with its 95 % interval, its difference from the baseline, and the letters of its rank group."""

    value: float
    low: float
    high: float
    letters: str = ""
    delta: Number = None
    delta_low: Number = None
    delta_high: Number = None
    differs: bool = False  # from the baseline


@dataclass(frozen=True)
class Comparison:
    """`estimates`: one for each group, None where per-clip scores are missing."""

    metric: str
    estimates: tuple[Estimate | None, ...]
    baseline: int
    clips: int  # those that every run has
    left_out: int  # clips that only some have
    resampled: int
    missing: tuple[Path, ...]  # runs without per-clip scores
    by_run: dict[Path, float] = field(default_factory=dict)  # the score of each single run, from its clips


def scores_file(run: Path, split: str) -> Path:
    return run / f"evaluation-{split}-scores.safetensors"


def compare_groups(groups: Sequence[Group], metric: str, baseline: int = 0) -> Comparison:
    """Estimates of `metric`: mAP, mAP/FAMILY, accuracy, or a caption metric such as cider_d.

    Raises UsageError for a metric that the runs do not have, or a damaged file.
    """
    split = groups[0].mean.scores.split
    found: dict[Path, ClipScores] = {}
    missing = []
    for run in (run for group in groups for run in group.runs):
        path = scores_file(run.path, split)
        if path.is_file():
            found[run.path] = load_clip_scores(path)
        else:
            missing.append(run.path)
    complete = [all(run.path in found for run in group.runs) for group in groups]
    used = {run.path: found[run.path] for group, whole in zip(groups, complete, strict=True) if whole
            for run in group.runs}  # fmt: skip
    nothing = Comparison(metric, (None,) * len(groups), baseline, 0, 0, 0, tuple(missing))
    if not used:
        return nothing
    every = {name for scores in used.values() for name in scores.ids}
    shared = sorted(set.intersection(*(set(scores.ids) for scores in used.values())))
    if not shared:
        return replace(nothing, left_out=len(every))
    tags = max(len(scores.tags) for scores in used.values())
    number = int(min(MOST, max(LEAST, _WORK / (len(shared) * max(tags, 1) * len(used)))))
    counts = torch.cat([torch.ones(1, len(shared), dtype=torch.uint8), resamples(len(shared), number)])
    drawn: list[Tensor | None] = []
    by_run: dict[Path, float] = {}
    for group, whole in zip(groups, complete, strict=True):
        each = [
            _resampled(_restricted(used[run.path], shared), run.path, metric, split, counts)
            for run in group.runs if whole
        ]  # fmt: skip
        by_run |= {run.path: float(one[0]) for run, one in zip(group.runs, each, strict=False)}
        drawn.append(_over_seeds(torch.stack(each, dim=1)) if each else None)
    return replace(
        nothing,
        estimates=_estimates(drawn, baseline),
        clips=len(shared),
        left_out=len(every) - len(shared),
        resampled=number,
        by_run=by_run,
    )


def _restricted(scores: ClipScores, ids: Sequence[str]) -> ClipScores:
    place = {name: i for i, name in enumerate(scores.ids)}
    rows = torch.tensor([place[name] for name in ids])
    chosen = {subset: values[rows] for subset, values in scores.scores.items()}
    return replace(scores, ids=tuple(ids), targets=scores.targets[rows], scores=chosen)


def _resampled(
    clips: ClipScores, run: Path, metric: str, split: str, counts: UInt8[Tensor, "R N"]
) -> Float[Tensor, " R"]:
    """The metric of one run on each draw of clips."""
    kind, _, family = metric.partition("/")
    scores = clips.scores["both"]
    if kind == "mAP":
        chosen = [i for i, tag in enumerate(clips.tags) if not family or clips.families.get(tag) == family]
        if not chosen:
            known = ", ".join(f"mAP/{name}" for name in sorted(set(clips.families.values())))
            raise UsageError(f"metric={metric}: {run} has no such tags; it has {known or 'no families'}")
        return resampled_average_precision(scores[:, chosen], clips.targets[:, chosen], counts).nanmean(dim=1)
    weights = counts.double()
    if metric == "accuracy":
        if not clips.groups:
            raise UsageError(f"metric=accuracy: {run} has no exclusive group of tags; take metric=mAP")
        questions = answers(scores, clips.targets, clips.tags, clips.groups, {})
        asked = {name: questions[name] for name in clips.groups}
        parts = [weights @ (q & right).double() / (weights @ q.double()) for q, right in asked.values()]
        return torch.stack(parts).nanmean(dim=0)
    values = _caption_values(run / f"evaluation-{split}-clips.jsonl", metric)
    own = torch.tensor([values.get(name, math.nan) for name in clips.ids], dtype=torch.float64)
    known = ~own.isnan()
    return weights[:, known] @ own[known] / weights[:, known].sum(dim=1)


def _caption_values(path: Path, metric: str) -> dict[str, float]:
    """A caption metric of each clip, by id."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        said = {r["id"]: r["captioning"]["metrics"] for r in records if "captioning" in r}
        if said and all(metric in values for values in said.values()):
            return {str(name): float(values[metric]) for name, values in said.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); evaluate the run again") from None
    known = ", ".join(sorted(next(iter(said.values()), {})))
    raise UsageError(f"metric={metric}: expected mAP, mAP/FAMILY, accuracy{', ' + known if known else ''}")


def _over_seeds(values: Float[Tensor, "R S"]) -> Float[Tensor, " R"]:
    """The mean over seeds drawn anew on each draw of clips but the first, which is the mean over all of them."""
    draws, seeds = values.shape
    mean = values.mean(dim=1)
    if seeds == 1:
        return mean
    places = torch.randint(seeds, (draws, seeds), generator=torch.Generator().manual_seed(seeds))
    spread = (values.gather(1, places).mean(dim=1) - mean) * math.sqrt(seeds / (seeds - 1))
    spread[0] = 0.0
    return mean + spread


def _estimates(drawn: Sequence[Float[Tensor, " R"] | None], baseline: int) -> tuple[Estimate | None, ...]:
    """The first number of each is its score; the others are those of the draws."""
    known = [i for i, values in enumerate(drawn) if values is not None]
    scored = {i: values for i in known if (values := drawn[i]) is not None}
    order = sorted(known, key=lambda i: -float(scored[i][0]))
    different = _different({i: scored[i] for i in order})
    letters = dict(zip(order, rank_letters(len(order), {(order.index(i), order.index(j)) for i, j in different}),
                       strict=True))  # fmt: skip
    found: list[Estimate | None] = []
    for i, values in enumerate(drawn):
        if values is None:
            found.append(None)
            continue
        estimate = Estimate(float(values[0]), *_centred(values), letters=letters[i])
        if baseline in scored and i != baseline:
            delta = values - scored[baseline]
            low, high = _centred(delta)
            apart = (i, baseline) in different or (baseline, i) in different
            estimate = replace(estimate, delta=float(delta[0]), delta_low=low, delta_high=high, differs=apart)
        found.append(estimate)
    return tuple(found)


def _centred(values: Float[Tensor, " R"]) -> list[float]:
    """The 95 % interval around the first value, which is of the clips as they are."""
    draws = values[1:]
    return interval(draws - draws.nanmean() + values[0])


def _different(scored: dict[int, Float[Tensor, " R"]]) -> set[tuple[int, int]]:
    """Pairs that differ by Holm's step-down test."""
    tested = []
    for i, j in combinations(scored, 2):
        delta = scored[i] - scored[j]
        spread = delta[1:][~delta[1:].isnan()]
        error = float(spread.std()) if len(spread) > 1 else math.nan
        size = abs(float(delta[0]))
        p = 1.0 if not size else math.erfc(size / error / math.sqrt(2)) if error else 0.0
        tested.append((p if p == p else 1.0, (i, j)))
    found: set[tuple[int, int]] = set()
    for rank, (p, pair) in enumerate(sorted(tested)):
        if p > ALPHA / (len(tested) - rank):
            break
        found.add(pair)
    return found


def rank_letters(count: int, different: set[tuple[int, int]]) -> list[str]:
    """For groups 0 (best) to count - 1: two share a letter exactly if they are not `different`.

    Insert and absorb (Piepho 2004): each pair that differs splits the sets that hold both.
    """
    sets = [frozenset(range(count))] if count else []
    for i, j in sorted(different):
        split = [part for one in sets for part in ((one - {i}, one - {j}) if i in one and j in one else (one,))]
        distinct = list(dict.fromkeys(split))
        sets = [one for one in distinct if one and not any(one < other for other in distinct)]
    sets.sort(key=lambda one: (sorted(one), -len(one)))
    return [" ".join(_letter(k) for k, one in enumerate(sets) if place in one) for place in range(count)]


def _letter(number: int) -> str:
    return (_letter(number // 26 - 1) if number >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[number % 26]
