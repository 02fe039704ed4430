"""How good tags are: average precision, by tag and by family, and accuracy in exclusive groups.

Shape legend: N clips, K tags. Tags without a positive clip have no average precision and stay out of every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def average_precision(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Per tag, NaN where no clip has it. Constant scores give the tag's prevalence, which is chance.

    The sum over thresholds of recall gained x precision; clips of equal score enter together, so order among them does
    not count.
    """
    ranked, order = scores.double().sort(dim=0, descending=True)
    hits = targets.double().gather(0, order).cumsum(dim=0)  # (N, K)
    precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    last = torch.ones_like(hits, dtype=torch.bool)  # of its run of equal scores
    last[:-1] = ranked[:-1] != ranked[1:]
    before = torch.where(last, hits, 0.0).cummax(dim=0).values.roll(1, dims=0)  # hits up to the run before
    before[0] = 0.0
    return (torch.where(last, hits - before, 0.0) * precision).sum(dim=0).div(hits[-1]).float()  # 0 / 0 is NaN


def mean_defined(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def group_accuracy(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """For each exclusive group, the share of clips whose highest tag of the group is right.

    Clips without a tag of the group have no right answer and stay out; NaN when there is no other.
    """
    result = {}
    for name, ids in groups.items():
        truth = targets[:, list(ids)] > 0
        right = truth.gather(1, scores[:, list(ids)].argmax(dim=1, keepdim=True))[truth.any(dim=1)]
        result[name] = float(right.float().mean())
    return result


def answers(
    scores: Float[Tensor, "N K"],
    targets: Float[Tensor, "N K"],
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
) -> dict[str, tuple[Bool[Tensor, " N"], Bool[Tensor, " N"]]]:
    """For each question (a free tag, or an exclusive group): which clips ask it, and which get the right answer.

    A group is asked of clips with a tag of it, and right when the highest is among them; a free tag is asked of the
    clips that have it, and right from a score of 0.5 on: that it stays away elsewhere is no feat for a rare tag.
    """
    grouped = {i for ids in groups.values() for i in ids}
    found = {}
    for name, ids in groups.items():
        truth = targets[:, list(ids)] > 0
        right = truth.gather(1, scores[:, list(ids)].argmax(dim=1, keepdim=True))[:, 0]
        found[name] = (truth.any(dim=1), right)
    for i, name in enumerate(names):
        if i not in grouped:
            found[name] = (targets[:, i] > 0, scores[:, i] >= 0.5)
    return found


def by_family(per_tag: Mapping[str, float], families: Mapping[str, str]) -> dict[str, float]:
    """The mean over the tags of each family; tags without a family are left out."""
    names = sorted(set(families.values()))
    return {family: mean_defined([per_tag[tag] for tag in per_tag if families.get(tag) == family]) for family in names}
