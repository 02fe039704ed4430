"""Runs that differ only in their seed are one row: their mean, with the single runs below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mmattn.reports.collect.runs import Head, Number, RunRecord, Scores, Split

SEEDS = ("seed", "data.seed")
# Settings that decide where and how fast, never what is learned.
ASIDE = ("run", "resume", "sweep", "sweep.", "logger.", "engine.", "trainer.threads", "data.workers",
         "data.cache_gb", "data.isolated", "data.deadline_s", "data.source.workers")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """`mean`: the numbers to show, means over the seeds where there are several."""

    name: str
    runs: tuple[RunRecord, ...]
    mean: RunRecord

    @property
    def fusion(self) -> str:
        return self.mean.fusion

    @property
    def attention(self) -> str | None:
        return self.mean.attention


def settings(run: RunRecord) -> dict[str, str]:
    """What decides a run's result but for chance. The copy of the attention outside the fusion is the same again."""
    skipped = (*SEEDS, "attention.")
    return {key: value for key, value in run.config.items() if not _is_in(key, (*ASIDE, *skipped))}


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """In the order of each group's first run. Runs of the same settings and the same seed stay apart."""
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
        Group(name, tuple(group), group[0] if len(group) == 1 else _mean(name, group))
        for name, group in zip(names, found, strict=True)
    ]


def _names(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """A run alone keeps its name; several are named by what was chosen for them and differs from the others."""
    if all(len(group) == 1 for group in groups):
        return [group[0].name for group in groups]
    firsts = [group[0] for group in groups]
    several = len({run.fusion for run in firsts}) > 1 or len({run.attention for run in firsts}) == 1
    parts = [[run.fusion] if several else [] for run in firsts]
    if len({run.attention for run in firsts}) > 1:
        parts = [part + ([run.attention] if run.attention else []) for part, run in zip(parts, firsts, strict=True)]
    names = [" ".join(part) for part in parts]
    for key in differing([settings(run) for run in firsts]):
        if len(set(names)) == len(names):
            break
        if not key.startswith("fusion."):
            short = key.rpartition(".")[2]
            names = [f"{name} {short}={run.config.get(key)}" for name, run in zip(names, firsts, strict=True)]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


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
    first = scores[0]
    return replace(
        first,
        epoch=first.epoch if len({one.epoch for one in scores}) == 1 else None,
        clips=min(one.clips for one in scores),
        mean=mean_of([one.mean for one in scores]),
        chance=mean_of([one.chance for one in scores]),
        mean_accuracy=mean_of([one.mean_accuracy for one in scores]),
        by_family=_means([one.by_family for one in scores]),
        by_tag=_means([one.by_tag for one in scores]),
        accuracy=_means([one.accuracy for one in scores]),
        captions=_means([one.captions for one in scores]),
        shapley=_mean_split([one.shapley for one in scores]),
        shapley_by_family=_mean_splits([one.shapley_by_family for one in scores]),
        shapley_by_tag=_mean_splits([one.shapley_by_tag for one in scores]),
        heads=_mean_heads([one.heads for one in scores]),
        permutation=_means([one.permutation for one in scores]),
        gradient_share=_means([one.gradient_share for one in scores]),
    )


def mean_of(values: Iterable[Number]) -> Number:
    """None as soon as one is: a mean over some seeds would not be comparable."""
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None) / len(known)


def _means(nodes: Sequence[Mapping[str, Number]]) -> dict[str, Number]:
    return {key: mean_of([node.get(key) for node in nodes]) for key in nodes[0]}


def _mean_split(splits: Sequence[Split]) -> Split:
    """Without intervals, which are of one model each."""
    video, audio, synergy = (mean_of([getattr(s, part) for s in splits]) for part in ("video", "audio", "synergy"))
    return Split(_means([split.value for split in splits]), video, audio, synergy)


def _mean_splits(nodes: Sequence[Mapping[str, Split]]) -> dict[str, Split]:
    return {key: _mean_split([node[key] for node in nodes]) for key in nodes[0] if all(key in node for node in nodes)}


def _mean_heads(runs: Sequence[Sequence[Head]]) -> tuple[Head, ...]:
    """Head for head; the heads of two seeds have nothing in common but their place, so means say little alone."""
    places = [{(head.layer, head.stream, head.head): head for head in heads} for heads in runs]
    shared = [place for place in places[0] if all(place in other for other in places)]
    found = []
    for place in shared:
        heads = [other[place] for other in places]
        mass, prior, ratio = (mean_of([getattr(h, fact) for h in heads]) for fact in ("mass", "prior", "log_ratio"))
        found.append(Head(*place, mass or 0.0, prior or 0.0, ratio))
    return tuple(found)


def _mean_curves(runs: Sequence[RunRecord]) -> dict[str, tuple[tuple[float, float], ...]]:
    """At the epochs that all seeds have."""
    found = {}
    for metric in runs[0].curves:
        lines = [dict(run.curves.get(metric, ())) for run in runs]
        shared = sorted(set.intersection(*(set(line) for line in lines)))
        found[metric] = tuple((epoch, sum(line[epoch] for line in lines) / len(lines)) for epoch in shared)
    return found
