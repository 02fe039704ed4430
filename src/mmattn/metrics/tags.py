"""How good tags are: average precision, AUROC, d', F1, and accuracy in exclusive groups.

All are of all clips at once, never means over batches: exact however clips were shared out.

Shape legend: N clips, K tags. Tags without a positive clip have no score and stay out of every mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precision(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Per tag, NaN where no clip has it. Constant scores give the tag's prevalence, which is chance.

    The sum over thresholds of recall gained x precision; clips of equal score enter together, so order among them does
    not count.
    """
    _, last, hits = ranking(scores, targets)
    precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    gained = _gained(hits, last)
    return (gained * precision).sum(dim=0).div(hits[-1]).float()  # 0 / 0 is NaN


def auroc(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """The chance that a clip with the tag scores above one without it, equal scores counting half. Per tag.

    The area under the ROC curve. NaN where all clips have the tag or none does.
    """
    _, last, hits = ranking(scores, targets)
    misses = torch.arange(1, len(hits) + 1, device=hits.device)[:, None] - hits
    won, lost = _gained(hits, last), _gained(misses, last)
    above = hits - won / 2  # clips with the tag above a run's clips without it, half of those beside them
    return (torch.where(last, above, 0.0) * lost).sum(dim=0).div(hits[-1] * misses[-1]).float()


def d_prime(area: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """sqrt(2) x the normal quantile of an AUROC: how many standard deviations apart two normals of that AUROC are.

    0 at chance, infinite at an AUROC of 1, -infinite at 0, NaN for NaN (Gemmeke et al. 2017).
    """
    return math.sqrt(2) * torch.special.ndtri(area.double())


def ranking(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]
) -> tuple[Float[Tensor, "N K"], Bool[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Each tag's scores in falling order; which are the last of their run of equal ones; clips with the tag so far."""
    ranked, order = scores.double().sort(dim=0, descending=True)
    hits = targets.double().gather(0, order).cumsum(dim=0)
    last = torch.ones_like(hits, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    return ranked, last, hits


def _gained(count: Float[Tensor, "N K"], last: Bool[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Of a running count, what each run of equal scores adds, at its last place; 0 elsewhere."""
    before = torch.where(last, count, 0.0).cummax(dim=0).values.roll(1, dims=0)
    before[0] = 0.0
    return torch.where(last, count - before, 0.0)


def decisions(
    scores: Float[Tensor, "N K"], thresholds: Float[Tensor, " K"], groups: Mapping[str, Sequence[int]]
) -> Bool[Tensor, "N K"]:
    """The tags that would be listed: free ones from their threshold on, the highest of each group."""
    chosen = scores.double() >= thresholds.double()
    for ids in groups.values():
        best = scores[:, list(ids)].argmax(dim=1, keepdim=True)
        chosen[:, list(ids)] = torch.zeros_like(chosen[:, list(ids)]).scatter(1, best, True)
    return chosen


def f1(chosen: Bool[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> tuple[Float[Tensor, " K"], float]:
    """2 TP / (2 TP + FP + FN): per tag, NaN where no clip has it; and of all tags' answers together (micro)."""
    truth = targets > 0
    right, wrong = (chosen & truth).sum(dim=0).double(), (chosen ^ truth).sum(dim=0).double()
    per_tag = torch.where(truth.any(dim=0), 2 * right / (2 * right + wrong), torch.nan)
    total = float(2 * right.sum() + wrong.sum())
    return per_tag, float(2 * right.sum()) / total if total else math.nan


def mean_defined(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def group_accuracy(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], groups: Mapping[str, Sequence[int]], among: int = 1
) -> dict[str, float]:
    """For each exclusive group, the share of clips with a right tag among the `among` highest of the group.

    Clips without a tag of the group have no right answer and stay out; NaN when there is no other. Of equal scores the
    first tags count as higher.
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
    """For each question (a free tag, or an exclusive group): which clips ask it, and which get the right answer.

    A group is asked of clips with a tag of it, and right when the highest is among them; a free tag is asked of the
    clips that have it, and right from its threshold on (0.5 where there is none): that it stays away elsewhere is no
    feat for a rare tag.
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
