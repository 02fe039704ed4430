"""The tag metrics of one evaluation other than average precision, as plain data. NaN: undefined.

Shape legend: N clips, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.metrics.calibration import calibration_errors
from mmattn.metrics.tags import auroc, d_prime, decisions, f1, group_accuracy, mean_defined

HALF = 0.5  # the threshold of a tag without its own
TOP = 5


def summary(
    scores: Float[Tensor, "N K"],
    targets: Float[Tensor, "N K"],
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """AUROC, d', F1, accuracy and calibration error. `thresholds`: of free tags, 0.5 for those without one.

    d' over all tags is that of the mean AUROC, as for AudioSet (Gemmeke et al. 2017), because single ones may be
    infinite. The top-5 accuracy is given for groups of more than five tags.
    """
    area = auroc(scores, targets)
    accuracy = group_accuracy(scores, targets, groups)
    large = {name: ids for name, ids in groups.items() if len(ids) > TOP}
    errors = calibration_errors(scores, targets, names, groups)
    mean_area = mean_defined(area.tolist())
    return {
        "accuracy": accuracy,
        "mean_accuracy": mean_defined(list(accuracy.values())),
        "top5_accuracy": group_accuracy(scores, targets, large, TOP),
        "auroc": mean_area,
        "auroc_by_tag": dict(zip(names, area.tolist(), strict=True)),
        "d_prime": float(d_prime(torch.tensor(mean_area))),
        "d_prime_by_tag": dict(zip(names, d_prime(area).tolist(), strict=True)),
        "f1": _f1(scores, targets, names, groups, thresholds),
        "f1_at_half": _f1(scores, targets, names, groups, {}),
        "calibration_error": mean_defined(list(errors.values())),
        "calibration_error_by_question": errors,
    }


def _f1(
    scores: Tensor,
    targets: Tensor,
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """F1 of the tags that would be listed, with the thresholds of free tags."""
    at = [thresholds.get(name, HALF) for name in names]
    per_tag, micro = f1(decisions(scores, torch.tensor(at, dtype=torch.float64), groups), targets)
    grouped = {i for ids in groups.values() for i in ids}
    return {
        "macro": mean_defined(per_tag.tolist()),
        "micro": micro,
        "by_tag": dict(zip(names, per_tag.tolist(), strict=True)),
        "thresholds": {name: at[i] for i, name in enumerate(names) if i not in grouped},
    }
