"""How good tags are: average precision, by tag and by family, and accuracy in exclusive groups.

Shape legend: N clips, K tags. Tags without a positive clip have no average precision and stay out of every mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def average_precision(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Per tag, NaN where no clip has it. Constant scores give the tag's prevalence, which is chance."""
    from torchmetrics.functional.classification import multilabel_average_precision

    result = torch.full((targets.shape[1],), float("nan"))
    known = targets.sum(dim=0) > 0
    if known.any():
        count = int(known.sum())
        found = multilabel_average_precision(scores[:, known], targets[:, known].long(), num_labels=count, average=None)
        result[known] = found.reshape(-1).to(result.dtype)
    return result


def mean_defined(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN when nothing is left."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else float("nan")


def group_accuracy(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """For each exclusive group, the share of clips whose highest tag of the group is the right one."""
    return {
        name: float((scores[:, list(ids)].argmax(1) == targets[:, list(ids)].argmax(1)).float().mean())
        for name, ids in groups.items()
    }


def by_family(per_tag: Mapping[str, float], families: Mapping[str, str]) -> dict[str, float]:
    """The mean over the tags of each family; tags without a family are left out."""
    names = sorted(set(families.values()))
    return {family: mean_defined([per_tag[tag] for tag in per_tag if families.get(tag) == family]) for family in names}
