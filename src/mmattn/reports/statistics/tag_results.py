"""How well each row lists tags: precision and recall at its thresholds, precision over recall, confusions in groups.

Shape legend: N clips, K tags, G tags of an exclusive group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.metrics.tags import average_precision, decisions, ranking
from mmattn.reports.collect.groups import Group
from mmattn.reports.collect.records import Number, number
from mmattn.weighting.clip_scores import ClipScores, load_clip_scores, scores_file

_LEVELS = torch.linspace(0, 1, 51, dtype=torch.double)  # of recall
_THRESHOLD = 0.5  # of a tag without its own


@dataclass(frozen=True)
class TagResult:
    """One tag, means over the seeds. `threshold`: None in an exclusive group, which lists its highest tag."""

    tag: str
    ap: Number
    threshold: Number
    precision: Number
    recall: Number
    support: int


@dataclass(frozen=True)
class TagResults:
    """One row. `curves`: (recall, precision) for "all tags" and each family; `confusions`: by exclusive group."""

    tags: tuple[TagResult, ...]
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    confusions: Mapping[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]]


def tag_results(groups: Sequence[Group]) -> list[TagResults | None]:
    """The results of each row; None where a seed lacks per-clip scores. Raises UsageError for a damaged file."""
    return [_of_group(group) for group in groups]


def _of_group(group: Group) -> TagResults | None:
    files = [scores_file(run.path, run.scores.split) for run in group.runs]
    if not all(file.is_file() for file in files):
        return None
    seeds = [load_clip_scores(file) for file in files]
    names = seeds[0].tags
    if not names or any((seed.tags, seed.groups) != (names, seeds[0].groups) for seed in seeds):
        return None
    in_group = {i for ids in seeds[0].groups.values() for i in ids}
    thresholds = [[run.thresholds.get(tag, _THRESHOLD) for tag in names] for run in group.runs]
    measured = torch.stack([_measured(seed, torch.tensor(own)) for seed, own in zip(seeds, thresholds, strict=True)])
    means = measured.mean(dim=0).tolist()
    support = [int(count) for count in (seeds[0].targets > 0).sum(dim=0)]
    tags = [
        TagResult(tag, number(ap), None if i in in_group else at, number(precision), number(recall), count)
        for i, (tag, (ap, at, precision, recall), count) in enumerate(zip(names, means, support, strict=True))
    ]
    return TagResults(
        tuple(tags), _curves(seeds), {name: _confusion(seeds, ids) for name, ids in seeds[0].groups.items()}
    )


def _measured(clips: ClipScores, thresholds: Float[Tensor, " K"]) -> Float[Tensor, "K 4"]:
    """Average precision, threshold, precision and recall of each tag; NaN where undefined."""
    listed, truth = decisions(clips.scores["both"], thresholds, clips.groups), clips.targets > 0
    right = (listed & truth).sum(dim=0).double()
    ap = average_precision(clips.scores["both"], clips.targets).double()
    return torch.stack([ap, thresholds.double(), right / listed.sum(dim=0), right / truth.sum(dim=0)], dim=1)


def precision_at(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, "51 K"]:
    """The highest precision at each of 51 levels of recall or above; NaN for a tag without a clip."""
    _, last, hits = ranking(scores, (targets > 0).double())
    precision = hits / torch.arange(1, len(hits) + 1)[:, None]
    best = torch.where(last, precision, 0.0).flip(0).cummax(dim=0).values.flip(0)  # from this rank on
    recall = (hits / hits[-1].clamp(min=1)).T.contiguous()
    first = torch.searchsorted(recall, (_LEVELS - 1e-9).expand(len(recall), -1).contiguous())  # (K, 51) ranks
    found = best.gather(0, first.T.clamp(max=len(best) - 1))
    return torch.where(hits[-1] > 0, found, torch.nan)


def _curves(seeds: Sequence[ClipScores]) -> dict[str, tuple[tuple[float, float], ...]]:
    """Means over tags and seeds."""
    precision = torch.stack([precision_at(seed.scores["both"], seed.targets) for seed in seeds]).nanmean(dim=0)
    families = [seeds[0].families.get(tag) for tag in seeds[0].tags]
    chosen = {"all tags": list(range(len(families)))}
    chosen |= {name: [i for i, own in enumerate(families) if own == name] for name in dict.fromkeys(families) if name}
    means = {name: precision[:, tags].nanmean(dim=1) for name, tags in chosen.items()}
    return {name: tuple(zip(_LEVELS.tolist(), mean.tolist(), strict=True))
            for name, mean in means.items() if not mean.isnan().any()}  # fmt: skip


def _confusion(seeds: Sequence[ClipScores], ids: Sequence[int]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """The tags of a group, and for each true tag how often each tag was the highest: sums over clips and seeds."""
    counts: Int[Tensor, "G G"] = torch.zeros(len(ids), len(ids), dtype=torch.long)
    for seed in seeds:
        truth, best = seed.targets[:, list(ids)] > 0, seed.scores["both"][:, list(ids)].argmax(dim=1)
        clip, true = truth.nonzero(as_tuple=True)
        counts.index_put_((true, best[clip]), torch.ones_like(clip), accumulate=True)
    return tuple(seeds[0].tags[i] for i in ids), tuple(map(tuple, counts.tolist()))
