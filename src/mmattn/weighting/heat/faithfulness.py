"""Deletion and insertion curves: whether a heat map is faithful to the model (Petsiuk et al. 2018).

Deletion removes the hottest tokens first: the faster the score falls, the better the map. Insertion adds the hottest
tokens first to none: the faster the score rises, the better. Both are compared with random orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import MODALITIES, Modality
from mmattn.weighting.heat.encoded_clip import EncodedClip, Heat


@dataclass(frozen=True)
class Curve:
    """`scores` at each of `shares`, the fraction of tokens removed or added; `area` under the curve, in [0, 1]."""

    shares: list[float]
    scores: list[float]
    area: float
    random_scores: list[float]  # mean over random orders
    random_area: float
    random_spread: float  # the standard deviation of their areas


@dataclass(frozen=True)
class Faithfulness:
    """The two curves of one heat map."""

    deletion: Curve
    insertion: Curve

    @property
    def gain(self) -> float:
        """Insertion area minus deletion area, less that of random orders: above 0 the map is better than chance."""
        found = self.insertion.area - self.deletion.area
        return found - (self.insertion.random_area - self.deletion.random_area)


def faithfulness(
    clip: EncodedClip,
    heat: Heat,
    index: int,
    tag: int,
    modalities: Sequence[Modality] = MODALITIES,
    steps: int = 16,
    orders: int = 8,
    seed: int = 0,
) -> Faithfulness:
    """The curves of row `index` of a heat map for the score of `tag`. Tokens of other modalities are kept.

    `orders`: the number of random orders. Raises ValueError if the clip has none of the modalities.
    """
    keep = clip.keep()
    sizes = [len(keep[name]) for name in MODALITIES]
    device = clip.video.keep.device
    movable = torch.cat([keep[name] & (name in modalities) for name in MODALITIES])
    count = int(movable.sum())
    if not count:
        raise ValueError(f"the clip has no {' and no '.join(modalities)}")
    values = torch.cat([heat[name][index] for name in MODALITIES])
    generator = torch.Generator().manual_seed(seed)
    ranked = [values] + [torch.rand(len(values), generator=generator).to(device) for _ in range(orders)]
    shares = torch.linspace(0, 1, min(steps, count) + 1)
    moved = (shares * count).round().to(device)  # (S,) tokens removed or added
    masks = []
    for order in ranked:
        rank = order.masked_fill(~movable, -torch.inf).argsort(descending=True).argsort()  # hottest 0
        hot = movable & (rank < moved[:, None])  # (S, L)
        masks += [~hot, ~movable | hot]
    whole = torch.cat(masks)
    scores = clip.scores(dict(zip(MODALITIES, whole.split(sizes, dim=1), strict=True)), [tag])[:, 0].cpu()
    curves = scores.view(1 + orders, 2, len(shares))
    return Faithfulness(_curve(shares, curves[:, 0]), _curve(shares, curves[:, 1]))


def _curve(shares: Float[Tensor, " S"], scores: Float[Tensor, "R S"]) -> Curve:
    areas = torch.trapezoid(scores, shares)
    spread = float(areas[1:].std(correction=0)) if len(areas) > 1 else 0.0
    random = scores[1:].mean(dim=0).tolist() if len(areas) > 1 else []
    mean = float(areas[1:].mean()) if len(areas) > 1 else float("nan")
    return Curve(shares.tolist(), scores[0].tolist(), float(areas[0]), random, mean, spread)
