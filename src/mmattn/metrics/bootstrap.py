"""How sure a score is: the clips are drawn again and again with replacement (Efron 1979), and the score taken of each.

Shape legend: R resamples, N clips, K tags.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

CHUNK = 8_000_000  # numbers of one step: 64 MB


def resamples(clips: int, number: int, seed: int = 0) -> UInt8[Tensor, "R N"]:
    """How often each clip is drawn in each of `number` resamples of as many clips. The same again for a seed."""
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
    """`average_precision` of each resample, as if a clip stood in it as often as `counts` says. NaN as there.

    Each tag's clips are ranked once for all resamples.
    """
    parts = counts.split(_rows(counts.shape[1]))
    return torch.cat([_of_chunk(scores.double(), targets.double(), part.double()) for part in parts])


def _of_chunk(scores: Tensor, targets: Tensor, counts: Tensor) -> Float[Tensor, "R K"]:
    columns = []
    for tag in range(scores.shape[1]):
        ranked, order = scores[:, tag].sort(descending=True)
        ends = torch.cat([ranked[1:] != ranked[:-1], ranked.new_ones(1, dtype=torch.bool)])  # of runs of equal scores
        drawn = counts[:, order]
        above = drawn.cumsum(dim=1)[:, ends]
        hits = (drawn * targets[order, tag]).cumsum(dim=1)[:, ends]
        gained = hits.diff(dim=1, prepend=hits.new_zeros(len(hits), 1))
        precision = hits / above.clamp(min=1.0)
        columns.append((gained * precision).sum(dim=1) / hits[:, -1])  # 0 / 0 is NaN
    return torch.stack(columns, dim=1)


def interval(values: Float[Tensor, " R"], share: float = 0.95) -> list[float]:
    """The middle `share` of a score over resamples (percentile interval); those where it is undefined stay out."""
    edges = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=values.dtype)
    return torch.nanquantile(values, edges).tolist()
