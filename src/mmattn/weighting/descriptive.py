"""Descriptive modality weightings: the attention mass on each modality, beside that of uniform attention.

Attention mass alone is misleading: over 512 audio and 196 video tokens uniform attention already has 72 % on audio. So
the mass is always reported with its prior and the log-ratio of the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.types import LayerStats, widest


@dataclass
class _Sum:
    """Sums over clips, for each head."""

    kind: str
    clips: int = 0
    mass: dict[str, Float[Tensor, " H"]] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Float[Tensor, " H"]] = field(default_factory=dict)  # entropy, lag_s, distance_s


class MassMeter:
    """Mean share of each part (modality, bottleneck) by layer, stream and head, over clips that have all parts.

    The shares are attention mass or gates, see `kind` in the record. If the mechanism reports them, also its entropy
    (nats), its lag (mean attended time minus the query's own, s) and its distance (the mean of |lag|, s). Within a clip
    the mean is over real queries; every clip has equal weight.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}

    def update(self, stats: Iterable[LayerStats]) -> None:
        """Add the statistics of a batch, with one transfer to the CPU for all layers."""
        layers = [layer for layer in stats if len(layer.mass) > 1]  # with one part the share is always 1
        if not layers:
            return
        figures = [_figures(layer) for layer in layers]
        whole = torch.cat(figures).cpu().split([len(one) for one in figures])
        for layer, one in zip(layers, whole, strict=True):
            count, *values = one.split(_sizes(layer))
            if not count:
                continue
            total = self._sums.setdefault((layer.layer, layer.stream), _Sum(layer.kind))
            total.clips += int(count)
            names, of_names = list(layer.mass), len(layer.mass)
            _add(total.prior, dict(zip(names, values[0].tolist(), strict=True)))
            _add(total.mass, dict(zip(names, values[1 : 1 + of_names], strict=True)))
            _add(total.facts, dict(zip(_facts(layer), values[1 + of_names :], strict=True)))

    def merge(self, other: MassMeter) -> None:
        """Add the sums of another process."""
        for key, theirs in other._sums.items():
            ours = self._sums.setdefault(key, _Sum(theirs.kind))
            ours.clips += theirs.clips
            for mine, more in ((ours.mass, theirs.mass), (ours.prior, theirs.prior), (ours.facts, theirs.facts)):
                _add(mine, more)

    def result(self) -> list[dict]:
        """One record for each layer, stream and head: mass, prior and log_ratio by part, and the other statistics."""
        records = []
        for (layer, stream), total in sorted(self._sums.items()):
            heads = len(next(iter(total.mass.values())))
            prior = {name: value / total.clips for name, value in total.prior.items()}
            for head in range(heads):
                mass = {name: float(value[head]) / total.clips for name, value in total.mass.items()}
                ratio = {name: math.log(max(mass[name], 1e-12) / prior[name]) for name in mass}
                place = {"layer": layer, "stream": stream, "head": head, "kind": total.kind}
                facts = {name: float(value[head]) / total.clips for name, value in total.facts.items()}
                records.append(place | {"mass": mass, "prior": prior, "log_ratio": ratio} | facts)
        return records


def _figures(layer: LayerStats) -> Float[Tensor, " N"]:
    """Sums over the clips that have every part: their number, priors, and for each head the masses and `_facts`."""
    priors = torch.stack([layer.prior[name] for name in layer.mass])  # (S, B)
    both, share = _clips_and_shares(layer)

    def per_head(value: Tensor) -> Float[Tensor, " H"]:
        weighed = widest(value.detach()) * share[:, None, :]
        return torch.where(both[:, None, None], weighed, 0.0).sum(dim=(0, 2))

    values = [*layer.mass.values(), *_facts(layer).values()]
    whole = [widest(both.sum()[None]), torch.where(both, widest(priors), 0.0).sum(dim=1)]
    return torch.cat([*whole, *(per_head(value) for value in values)])


def _sizes(layer: LayerStats) -> list[int]:
    """The sizes of the parts of `_figures`."""
    heads = next(iter(layer.mass.values())).shape[1]
    return [1, len(layer.mass), *[heads] * (len(layer.mass) + len(_facts(layer)))]


def _facts(layer: LayerStats) -> dict[str, Float[Tensor, "B H Lq"]]:
    facts = {} if layer.entropy is None else {"entropy": layer.entropy}
    return facts if layer.lag is None else {**facts, "lag_s": layer.lag, "distance_s": layer.lag.abs()}


def _clips_and_shares(layer: LayerStats) -> tuple[Bool[Tensor, " B"], Float[Tensor, "B Lq"]]:
    """The clips that have every part and a query; the weight of each query in the mean over its clip's real ones."""
    both = (torch.stack(list(layer.prior.values())) > 0).all(dim=0) & layer.query_keep.any(dim=1)
    queries = widest(layer.query_keep)
    return both, queries / queries.sum(dim=1, keepdim=True).clamp(min=1.0)


def mass_by_clip(stats: Iterable[LayerStats]) -> Float[Tensor, "B H 2"] | None:
    """For each clip and each head (of all layers and streams, sorted) the mass on audio and its prior.

    NaN for a clip that lacks a modality; None if no head attends to audio and another part.
    """
    found = []
    for layer in sorted(stats, key=lambda layer: (layer.layer, layer.stream)):
        if len(layer.mass) < 2 or "audio" not in layer.mass:
            continue
        both, share = _clips_and_shares(layer)
        mass = (widest(layer.mass["audio"].detach()) * share[:, None, :]).sum(dim=2)  # (B, H)
        prior = widest(layer.prior["audio"])[:, None].expand_as(mass)
        found.append(torch.stack([mass, prior], dim=2).where(both[:, None, None], torch.nan))
    return torch.cat(found, dim=1) if found else None


def _add(sums: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value
