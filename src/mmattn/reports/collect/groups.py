"""Runs that differ only in their seed make one row: their mean, with the single runs below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mmattn.reports.collect.records import Curves, Head, Number, RunRecord, Scores, Split

SEEDS = ("seed", "data.seed")
# Settings that decide where and how fast a run trains, never what it learns.
NOT_LEARNED = ("run", "resume", "sweep", "sweep.", "logger.", "engine.", "trainer.threads", "data.workers",
         "data.cache_gb", "data.isolated", "data.deadline_s", "data.source.workers")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """One row. `mean` holds the numbers to show: means over the seeds where there are several."""

    name: str
    runs: tuple[RunRecord, ...]
    mean: RunRecord

    @property
    def fusion(self) -> str:
        """The fusion of its runs."""
        return self.mean.fusion

    @property
    def attention(self) -> str | None:
        """The attention of its runs; None for a fusion without attention."""
        return self.mean.attention


def settings(run: RunRecord) -> dict[str, str]:
    """The settings that decide a run's result, apart from chance and the second copy of the attention."""
    skipped = (*SEEDS, "attention.")
    return {key: value for key, value in run.config.items() if not _is_in(key, (*NOT_LEARNED, *skipped))}


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """Groups in the order of their first runs. Runs with the same settings and the same seed stay apart."""
    alike: dict[tuple[tuple[str, str], ...], list[RunRecord]] = {}
    for run in runs:
        alike.setdefault(tuple(sorted(settings(run).items())), []).append(run)
    found: list[list[RunRecord]] = []
    for same in alike.values():
        seeds = [run.seed for run in same]
        apart = len(set(seeds)) < len(seeds) or None in seeds
        found += [[run] for run in same] if apart else [sorted(same, key=lambda run: _order(run.seed))]
    found.sort(key=lambda group: min(runs.index(run) for run in group))
    names = _names(found)
    return [
        Group(name, tuple(group), replace(group[0], name=name) if len(group) == 1 else _mean(name, group))
        for name, group in zip(names, found, strict=True)
    ]


def _names(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """A single run keeps its name; a group is named by the choices that set it apart from the others."""
    if all(len(group) == 1 for group in groups):
        return [group[0].name for group in groups]
    firsts = [group[0] for group in groups]
    several = len({run.fusion for run in firsts}) > 1 or len({run.attention for run in firsts}) == 1
    parts = [[run.fusion] if several else [] for run in firsts]
    if len({run.attention for run in firsts}) > 1:
        parts = [part + ([run.attention] if run.attention else []) for part, run in zip(parts, firsts, strict=True)]
    names = [" ".join(part) for part in parts]
    found = [settings(run) for run in firsts]
    for key in sorted(differing(found), key=_place):
        names = _told_apart(names, [one.get(key) for one in found], key.rpartition(".")[2])
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _place(key: str) -> tuple[bool, int]:
    """Settings of the fusion, general ones first and classes last, come after all others, which keep their order."""
    return key.endswith("._target_"), key.count(".") if key.startswith("fusion.") else 0


def _told_apart(names: Sequence[str], values: Sequence[str | None], key: str) -> list[str]:
    """Equal names with the values of `key` where these differ among them."""
    valued: dict[str, set[str | None]] = {}
    for name, value in zip(names, values, strict=True):
        valued.setdefault(name, set()).add(value)
    pairs = zip(names, values, strict=True)
    return [name if value is None or len(valued[name]) == 1 else f"{name} {key}={value}" for name, value in pairs]


def differing(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys that are not the same in all, in order."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({config.get(key) for config in configs}) > 1]


def _is_in(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or (prefix.endswith(".") and key.startswith(prefix)) for prefix in prefixes)


def _order(seed: str | None) -> tuple[int, str]:
    return (int(seed), "") if seed and seed.isdigit() else (0, str(seed))


def _mean(name: str, runs: Sequence[RunRecord]) -> RunRecord:
    return replace(
        runs[0],
        name=name,
        scores=_mean_scores([run.scores for run in runs]),
        curves=_mean_curves(runs),
        families={tag: family for run in runs for tag, family in run.families.items()},
    )


def _mean_scores(scores: Sequence[Scores]) -> Scores:
    """Field by field; the split is that of all, the number of clips the least."""
    apart = ("split", "epoch", "clips")
    means = {f.name: _mean_value([getattr(s, f.name) for s in scores]) for f in fields(Scores) if f.name not in apart}
    epochs = {one.epoch for one in scores}
    return replace(
        scores[0], **means, epoch=epochs.pop() if len(epochs) == 1 else None, clips=min(one.clips for one in scores)
    )


def _mean_value(values: Sequence[Any]) -> Any:
    """The mean of numbers, of splits (without intervals, which are of one model each), of heads, or by key of these."""
    first = values[0]
    if isinstance(first, Split):
        parts = {part: mean_of([getattr(split, part) for split in values]) for part in ("video", "audio", "synergy")}
        return replace(first, value=_mean_value([split.value for split in values]), interval={}, **parts)
    if isinstance(first, tuple):
        return _mean_heads(values)
    if isinstance(first, dict):
        of_splits = any(isinstance(value, Split) for value in first.values())
        keys = [key for key in first if not of_splits or all(key in value for value in values)]
        return {key: _mean_value([value.get(key) for value in values]) for key in keys}
    return mean_of(values)


def mean_of(values: Iterable[Number]) -> Number:
    """None as soon as one is: a mean over some seeds would not be comparable."""
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None) / len(known)


def _mean_heads(runs: Sequence[Sequence[Head]]) -> tuple[Head, ...]:
    """Head by head; heads of two seeds have nothing in common but their place, so means say little on their own."""
    places = [{(head.layer, head.stream, head.head): head for head in heads} for heads in runs]
    found = []
    for place in (place for place in places[0] if all(place in other for other in places)):
        heads = [other[place] for other in places]
        mass, prior, ratio = (mean_of([getattr(h, fact) for h in heads]) for fact in ("mass", "prior", "log_ratio"))
        found.append(Head(*place, mass or 0.0, prior or 0.0, ratio))
    return tuple(found)


def _mean_curves(runs: Sequence[RunRecord]) -> Curves:
    """At the epochs that all seeds have."""
    found = {}
    for metric in runs[0].curves:
        lines = [dict(run.curves.get(metric, ())) for run in runs]
        shared = sorted(set.intersection(*(set(line) for line in lines)))
        found[metric] = tuple((epoch, sum(line[epoch] for line in lines) / len(lines)) for epoch in shared)
    return found
