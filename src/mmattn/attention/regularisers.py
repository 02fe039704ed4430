"""Penalties on the attention, added to the training loss: config group `regulariser`, off by default.

Each is the mean over layers, clips, heads and real queries of a measure that is 0 where attention is as sparse as it
asks for. It works with every mechanism whose statistics carry gradients. The plain L1 and L2,1 norms of
mass are constant, since mass sums to 1: hence the measures here.

Shape legend: B clips, H heads, Lq queries, S modalities.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmattn.errors import UsageError
from mmattn.types import LayerStats, Tokens


class Regulariser:
    """`weight` times the mean of `measure` over the layers. `needs`: the statistics it reads."""

    needs: frozenset[str] = frozenset({"mass"})

    def __init__(self, weight: float) -> None:
        if not 0 < weight < float("inf"):
            raise ValueError(f"regulariser.weight={weight}: expected more than 0; to disable it, leave it out")
        self.weight = weight

    def __call__(self, stats: Sequence[LayerStats]) -> Float[Tensor, ""]:
        """Raises UsageError where no layer has what it measures."""
        measured = [self.measure(layer) for layer in stats if self.applies(layer)]
        if not measured:
            raise UsageError(
                f"{type(self).__name__} finds nothing to measure: no layer of this fusion and attention has "
                f"{' and '.join(sorted(self.needs))} over several modalities"
            )
        return self.weight * torch.stack(measured).mean()

    def check(self, fusion: nn.Module, dim: int) -> None:
        """Raise UsageError if a fusion of tokens with `dim` channels has no statistics that carry gradients."""
        tokens = Tokens(torch.zeros(1, 2, dim), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2))
        training = fusion.training
        with torch.enable_grad():
            penalty = self(fusion.eval()(tokens, tokens, self.needs).stats)
        fusion.train(training)
        if not penalty.requires_grad:
            raise UsageError(f"{type(self).__name__}: the statistics of this fusion and attention carry no gradient")

    def applies(self, layer: LayerStats) -> bool:
        """Whether this layer has anything to regularise."""
        return len(layer.mass) > 1

    @abstractmethod
    def measure(self, layer: LayerStats) -> Float[Tensor, ""]:
        """The penalty of one layer, a mean over its real queries."""


class Entropy(Regulariser):
    """The entropy of the attention weights, in nats: 0 where each query reads a single key."""

    needs = frozenset({"mass", "entropy"})

    def applies(self, layer: LayerStats) -> bool:
        return layer.entropy is not None

    def measure(self, layer: LayerStats) -> Float[Tensor, ""]:
        assert layer.entropy is not None
        return _mean(layer.entropy, layer.query_keep)


class Hoyer(Regulariser):
    """The Hoyer-square measure, (sum_m mass_m)^2 / sum_m mass_m^2 - 1 (Yang et al. 2020).

    0 where each query reads a single modality, S - 1 where it reads all equally. Different queries may read different
    modalities.
    """

    def measure(self, layer: LayerStats) -> Float[Tensor, ""]:
        mass = torch.stack(list(layer.mass.values()), dim=-1)
        total, squares = mass.sum(dim=-1), mass.square().sum(dim=-1)
        some = squares > 0  # a query that reads no key has no mass
        ratio = total.square() / torch.where(some, squares, 1.0) - 1
        return _mean(torch.where(some, ratio, 0.0), layer.query_keep & _several(layer))


class GroupSparsity(Regulariser):
    """Modalities as groups: sum_m sqrt(mean over queries of mass_m) - 1.

    0 where all queries of a head read one and the same modality, so that heads specialise. (Group lasso, Yuan & Lin
    2006, with the exponent 1/2 that a sum of 1 needs.)
    """

    def measure(self, layer: LayerStats) -> Float[Tensor, ""]:
        keep = layer.query_keep[:, None].to(torch.float32)  # (B, 1, Lq)
        share = keep / keep.sum(dim=-1, keepdim=True).clamp(min=1.0)
        mass = torch.stack([(part * share).sum(dim=-1) for part in layer.mass.values()], dim=-1)  # (B, H, S)
        mass = mass / mass.sum(dim=-1, keepdim=True).clamp(min=1e-6)
        measure = (mass + 1e-6).sqrt().sum(dim=-1) - 1  # the slope of a root at 0 is infinite
        clips = (layer.query_keep.any(dim=1, keepdim=True) & _several(layer)).expand_as(measure)
        return torch.where(clips, measure, 0.0).sum() / clips.sum().clamp(min=1)


class Price(Regulariser):
    """A weighted L1 norm, sum_m price_m mass_m: attention to each modality has a price.

    0 where all mass is on free modalities. `prices` names modalities (video, audio, bottleneck, ...); others are free.
    """

    def __init__(self, weight: float, prices: dict[str, float]) -> None:
        super().__init__(weight)
        if not prices or min(prices.values()) < 0 or not any(prices.values()):
            raise ValueError(f"regulariser.prices={prices}: expected a price of 0 or more for each, and one above 0")
        self.prices = prices

    def applies(self, layer: LayerStats) -> bool:
        return super().applies(layer) and any(self.prices.get(name) for name in layer.mass)

    def measure(self, layer: LayerStats) -> Float[Tensor, ""]:
        cost = torch.stack([self.prices.get(name, 0.0) * mass for name, mass in layer.mass.items()]).sum(dim=0)
        return _mean(cost, layer.query_keep & _several(layer))


def _several(layer: LayerStats) -> Bool[Tensor, "B 1"]:
    """Clips that have more than one modality: the others leave no choice."""
    return (torch.stack(list(layer.prior.values())) > 0).sum(dim=0)[:, None] > 1


def _mean(value: Float[Tensor, "B H Lq"], queries: Bool[Tensor, "B Lq"]) -> Float[Tensor, ""]:
    """Over heads and some queries; 0 if there are none."""
    kept = queries[:, None].expand_as(value)
    return torch.where(kept, value, 0.0).sum() / kept.sum().clamp(min=1)
