"""Bootstrap intervals of scores: the score of many resamples of the clips with replacement (Efron 1979).

Shape legend: R resamples, N clips, K tags.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

CHUNK = 8_000_000  # elements of one step: 32 MB


def resamples(clips: int, number: int, seed: int = 0) -> UInt8[Tensor, "R N"]:
    """How often each clip is drawn in each of `number` resamples of as many clips. Deterministic for a seed."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.zeros(number, clips, dtype=torch.uint8)
    for part in counts.split(_rows(clips)):
        draws = torch.randint(clips, part.shape, generator=generator)
        part.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.uint8))
    return counts


def _rows(clips: int) -> int:
    return max(1, CHUNK // max(1, clips))


def resampled_average_precision(
    scores: Float[Tensor, "N K"], targets: Float[Tensor, "N K"], counts: UInt8[Tensor, "R N"]
) -> Float[Tensor, "R K"]:
    """`average_precision` of each resample, in which each clip occurs as often as in `counts`. NaN as there.

    Each tag's clips are ranked once for all resamples.
    """
    parts = counts.split(_rows(counts.shape[1]))
    return torch.cat([_of_chunk(scores, targets, part.T.contiguous()) for part in parts])


def _of_chunk(scores: Tensor, targets: Tensor, counts: Tensor) -> Float[Tensor, "R K"]:
    """Each positive clip counts as often as it is drawn, with the precision at the end of its run of equal scores."""
    columns = []
    for tag in range(scores.shape[1]):
        ranked, order = scores[:, tag].sort(descending=True)
        hits = (targets[order, tag] > 0).nonzero()[:, 0]  # (P,) their ranks
        ends = torch.searchsorted(-ranked, -ranked[hits], right=True) - 1  # (P,) of their runs
        within = torch.searchsorted(hits, ends, right=True) - 1  # (P,) the last positive up to there
        drawn = counts[order[hits]].double()  # (P, R)
        found = drawn.cumsum(dim=0)[within]
        above = counts[order].cumsum(dim=0, dtype=torch.float32)[ends].double()  # whole numbers, exact up to 2^24
        columns.append((drawn * found / above.clamp(min=1.0)).sum(dim=0) / drawn.sum(dim=0))  # 0 / 0 is NaN
    return torch.stack(columns, dim=1)


def interval(values: Float[Tensor, " R"], share: float = 0.95) -> list[float]:
    """The percentile interval of a score: the central `share` of its resamples; undefined ones are left out."""
    edges = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=values.dtype)
    return torch.nanquantile(values, edges).tolist()
