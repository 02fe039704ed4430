"""Descriptive modality weightings: what the attention looks at, beside what uniform attention would look at.

Attention mass alone misleads: over 512 sound and 196 picture tokens, uniform attention already reads 72 % sound. So the
mass is always given with its prior and the log-ratio of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import LayerStats


@dataclass
class _Sum:
    mass: dict[str, Float[Tensor, " H"]]
    prior: dict[str, float]
    clips: int
    kind: str


class MassMeter:
    """Mean share of each part (modality, bottleneck) by layer, stream and head, over clips that have all of them.

    The shares are attention mass, or gates, as the record's `kind` says. Within a clip the mean runs over real queries; every clip counts the same.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}

    def update(self, stats: Iterable[LayerStats]) -> None:
        for layer in stats:
            if len(layer.mass) < 2:
                continue  # a stream that reads one modality alone has nothing to weigh
            priors = torch.stack(list(layer.prior.values()))  # (S, B)
            both = (priors > 0).all(dim=0) & layer.query_keep.any(dim=1)
            if not both.any():
                continue
            queries = layer.query_keep[both].double()  # (B', Lq)
            share = queries / queries.sum(dim=1, keepdim=True)
            total = self._sums.setdefault((layer.layer, layer.stream), _Sum({}, {}, 0, layer.kind))
            total.clips += int(both.sum())
            for name, mass in layer.mass.items():
                per_head = (mass[both].detach().double() * share[:, None, :]).sum(dim=(0, 2)).cpu()
                total.mass[name] = total.mass.get(name, torch.zeros_like(per_head)) + per_head
                total.prior[name] = total.prior.get(name, 0.0) + float(layer.prior[name][both].double().sum())

    def merge(self, other: MassMeter) -> None:
        """Add what another process has seen."""
        for key, theirs in other._sums.items():
            ours = self._sums.setdefault(key, _Sum({}, {}, 0, theirs.kind))
            ours.clips += theirs.clips
            for name, mass in theirs.mass.items():
                ours.mass[name] = ours.mass.get(name, torch.zeros_like(mass)) + mass
                ours.prior[name] = ours.prior.get(name, 0.0) + theirs.prior[name]

    def result(self) -> list[dict]:
        """One record a layer, stream and head: mass, prior and log_ratio by modality."""
        records = []
        for (layer, stream), total in sorted(self._sums.items()):
            heads = len(next(iter(total.mass.values())))
            prior = {name: value / total.clips for name, value in total.prior.items()}
            for head in range(heads):
                mass = {name: float(value[head]) / total.clips for name, value in total.mass.items()}
                ratio = {name: math.log(max(mass[name], 1e-12) / prior[name]) for name in mass}
                place = {"layer": layer, "stream": stream, "head": head, "kind": total.kind}
                records.append(place | {"mass": mass, "prior": prior, "log_ratio": ratio})
        return records
