"""Metrics of tags: average precision, AUROC, d', F1, and accuracy in exclusive groups.

All are computed over all clips at once, never as means over batches, so they do not depend on batches or processes.

Shape legend: N clips, K tags. Tags without a positive clip have no score and stay out of every mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precision(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Per tag, NaN if no clip has it. Constant scores give the tag's prevalence, which is chance.

    The sum over thresholds of the gain in recall x precision; clips of equal score enter together, so their order does
    not matter.
    """
    _, last, hits = ranking(scores, targets)
    precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    gained = _gained(hits, last)
    return (gained * precision).sum(dim=0).div(hits[-1]).float()  # 0 / 0 is NaN


def auroc(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """The area under the ROC curve, per tag; NaN if all clips have the tag or none does.

    It is the probability that a clip with the tag scores higher than one without it; equal scores count half.
    """
    _, last, hits = ranking(scores, targets)
    misses = torch.arange(1, len(hits) + 1, device=hits.device)[:, None] - hits
    won, lost = _gained(hits, last), _gained(misses, last)
    above = hits - won / 2  # clips with the tag above a run's clips without it, and half of those in the run
    return (torch.where(last, above, 0.0) * lost).sum(dim=0).div(hits[-1] * misses[-1]).float()


def d_prime(area: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sqrt(2) x the normal quantile of an AUROC: the distance of two normals with that AUROC in standard deviations.

    0 at chance, infinite at an AUROC of 1, -infinite at 0, NaN for NaN (Gemmeke et al. 2017).
    """
    return math.sqrt(2) * torch.special.ndtri(area.double())


def ranking(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]
) -> tuple[Float[Tensor, "N K"], Bool[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Each tag's scores in descending order; which are the last of a run of equal ones; clips with the tag so far."""
    ranked, order = scores.double().sort(dim=0, descending=True)
    hits = targets.double().gather(0, order).cumsum(dim=0)
    last = torch.ones_like(hits, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    return ranked, last, hits


def _gained(count: Float[Tensor, "N K"], last: Bool[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """The increase of a running count over each run of equal scores, at the last one of the run; 0 elsewhere."""
    before = torch.where(last, count, 0.0).cummax(dim=0).values.roll(1, dims=0)
    before[0] = 0.0
    return torch.where(last, count - before, 0.0)


def decisions(
    scores: Float[Tensor, "N K"], thresholds: Float[Tensor, " K"], groups: Mapping[str, Sequence[int]]
) -> Bool[Tensor, "N K"]:
    """The tags to list: free ones at or above their threshold, and the highest of each group."""
    chosen = scores.double() >= thresholds.double()
    for ids in groups.values():
        best = scores[:, list(ids)].argmax(dim=1, keepdim=True)
        chosen[:, list(ids)] = torch.zeros_like(chosen[:, list(ids)]).scatter(1, best, True)
    return chosen


def f1(chosen: Bool[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> tuple[Float[Tensor, " K"], float]:
    """2 TP / (2 TP + FP + FN): per tag, NaN if no clip has it; and over the answers of all tags (micro)."""
    truth = targets > 0
    right, wrong = (chosen & truth).sum(dim=0).double(), (chosen ^ truth).sum(dim=0).double()
    per_tag = torch.where(truth.any(dim=0), 2 * right / (2 * right + wrong), torch.nan)
    total = float(2 * right.sum() + wrong.sum())
    return per_tag, float(2 * right.sum()) / total if total else math.nan


def mean_defined(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def group_accuracy(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], groups: Mapping[str, Sequence[int]], among: int = 1
) -> dict[str, float]:
    """For each exclusive group, the share of clips with a right tag among the `among` highest of the group.

    Clips without a tag of the group are left out; NaN if none is left. Among equal scores the first tags rank higher.
    """
    result = {}
    for name, ids in groups.items():
        truth = targets[:, list(ids)] > 0
        best = scores[:, list(ids)].argsort(dim=1, descending=True, stable=True)[:, :among]
        right = truth.gather(1, best).any(dim=1)[truth.any(dim=1)]
        result[name] = float(right.float().mean())
    return result


def answers(
    scores: Float[Tensor, "N K"],
    targets: Float[Tensor, "N K"],
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    thresholds: Mapping[str, float],
) -> dict[str, tuple[Bool[Tensor, " N"], Bool[Tensor, " N"]]]:
    """For each question (a free tag or an exclusive group): the clips it applies to, and those answered right.

    A group applies to clips with a tag of it, and is right if the highest score is one of them. A free tag applies to
    clips that have it, and is right at or above its threshold (0.5 without one); clips without the tag do not count,
    because for a rare tag they are easy.
    """
    grouped = {i for ids in groups.values() for i in ids}
    found = {}
    for name, ids in groups.items():
        truth = targets[:, list(ids)] > 0
        right = truth.gather(1, scores[:, list(ids)].argmax(dim=1, keepdim=True))[:, 0]
        found[name] = (truth.any(dim=1), right)
    for i, name in enumerate(names):
        if i not in grouped:
            found[name] = (targets[:, i] > 0, scores[:, i].double() >= thresholds.get(name, 0.5))
    return found


def by_family(per_tag: Mapping[str, float], families: Mapping[str, str]) -> dict[str, float]:
    """The mean over the tags of each family; tags without a family are left out."""
    names = sorted(set(families.values()))
    return {family: mean_defined([per_tag[tag] for tag in per_tag if families.get(tag) == family]) for family in names}
