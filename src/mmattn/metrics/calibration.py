"""Calibration errors of scores, and thresholds for listing tags.

Shape legend: N clips, K tags, C classes of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.metrics.tags import ranking

BINS = 15


def calibration_errors(
    scores: Float[Tensor, "N K"],
    targets: Float[Tensor, "N K"],
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
) -> dict[str, float]:
    """The expected calibration error of each question: a free tag, or an exclusive group (Guo et al. 2017, eq. 3).

    For a free tag, its score against its presence; for a group, the highest score against whether that tag is right,
    over clips with a tag of the group. NaN without clips.
    """
    grouped = {i for ids in groups.values() for i in ids}
    found = {
        name: expected_calibration_error(scores[:, i], targets[:, i] > 0)
        for i, name in enumerate(names)
        if i not in grouped
    }
    for name, ids in groups.items():
        truth = targets[:, list(ids)] > 0
        answered = truth.any(dim=1)
        confidence, best = scores[answered][:, list(ids)].max(dim=1)
        found[name] = expected_calibration_error(confidence, truth[answered].gather(1, best[:, None])[:, 0])
    return found


def expected_calibration_error(scores: Float[Tensor, " N"], right: Bool[Tensor, " N"]) -> float:
    """The sum over 15 bins of equal width of (clips in the bin / N) |mean score - share of right ones|."""
    if not len(scores):
        return float("nan")
    edges = torch.linspace(0, 1, BINS + 1, dtype=scores.dtype)
    place = (torch.bucketize(scores.contiguous(), edges, right=True) - 1).clamp(0, BINS - 1)
    gap = torch.zeros(BINS, dtype=torch.float64).index_add(0, place, scores.double() - right.double())
    return float(gap.abs().sum() / len(scores))


def best_f1_thresholds(scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """The threshold of each tag with the highest F1; NaN if no clip has the tag.

    For equal F1 the higher threshold. It is halfway between the last score that is listed and the first that is not.
    """
    ranked, last, hits = ranking(scores, (targets > 0).double())
    listed = torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    value = torch.where(last, 2 * hits / (listed + hits[-1]), -1.0)
    return torch.where(hits[-1] > 0, _between(ranked, value.argmax(dim=0)), torch.nan)


def precision_thresholds(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], wanted: float
) -> Float[Tensor, " K"]:
    """The lowest threshold of each tag with a precision of at least `wanted`; NaN if none reaches it."""
    ranked, last, hits = ranking(scores, (targets > 0).double())
    listed = torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    good = last & (hits / listed >= wanted) & (hits > 0)
    deepest = torch.where(good, listed, 0).argmax(dim=0)
    return torch.where(good.any(dim=0), _between(ranked, deepest), torch.nan)


def _between(ranked: Float[Tensor, "N K"], place: Tensor) -> Float[Tensor, " K"]:
    """Halfway between the score at `place` and the next lower one, 0 at the end."""
    floor = torch.cat([ranked, torch.zeros_like(ranked[:1])])
    return (floor.gather(0, place[None])[0] + floor.gather(0, place[None] + 1)[0]) / 2
