"""Losses of free tags: binary cross-entropy, focal and asymmetric.

A loss gives what a logit costs if the tag is present and if it is absent. So soft targets (label smoothing, mixup) cost
the mixture of both, and class weights scale each.

Shape legend: B clips, F free tags.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from mmattn.errors import UsageError

Pair = tuple[Float[Tensor, "B F"], Float[Tensor, "B F"]]


class TagLoss(ABC):
    """Logits -> (cost if the tag is present, cost if it is absent), in nats, never negative."""

    @abstractmethod
    def __call__(self, logits: Float[Tensor, "B F"]) -> Pair:
        """The two costs of each logit."""


@dataclass(frozen=True)
class CrossEntropy(TagLoss):
    """-log p and -log (1 - p), p = sigmoid(logit)."""

    def __call__(self, logits: Float[Tensor, "B F"]) -> Pair:
        return softplus(-logits), softplus(logits)


@dataclass(frozen=True)
class Focal(TagLoss):
    """-alpha (1 - p)^gamma log p, and -(1 - alpha) p^gamma log (1 - p) (Lin et al. 2017, eq. 5).

    `gamma` >= 0; `alpha` in [0, 1], None: no class factor (eq. 4).
    """

    gamma: float = 2.0
    alpha: float | None = 0.25

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise UsageError(f"tag_loss.gamma={self.gamma}: expected 0 or more")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(f"tag_loss.alpha={self.alpha}: expected 0 to 1, or null")

    def __call__(self, logits: Float[Tensor, "B F"]) -> Pair:
        present, absent = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        log_p, log_not = logsigmoid(logits), logsigmoid(-logits)
        return -present * torch.exp(self.gamma * log_not) * log_p, -absent * torch.exp(self.gamma * log_p) * log_not


@dataclass(frozen=True)
class Asymmetric(TagLoss):
    """-(1 - p)^gamma_positive log p, and -p_m^gamma_negative log (1 - p_m) with p_m = max(p - margin, 0).

    Ridnik et al. 2021, eq. 4 to 6; the gradient goes through all factors. With both gammas and the margin 0 it is the
    cross-entropy.
    """

    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        for name in ("gamma_positive", "gamma_negative"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"tag_loss.{name}={getattr(self, name)}: expected 0 or more")
        if not 0 <= self.margin < 1:
            raise UsageError(f"tag_loss.margin={self.margin}: expected at least 0 and below 1")

    def __call__(self, logits: Float[Tensor, "B F"]) -> Pair:
        log_not = logsigmoid(-logits)
        present = -torch.exp(self.gamma_positive * log_not) * logsigmoid(logits)
        if self.margin == 0:  # exact also if 1 - p underflows
            return present, -torch.exp(self.gamma_negative * logsigmoid(logits)) * log_not
        shifted = torch.sigmoid(logits) - self.margin
        above = shifted > 0
        shifted = torch.where(above, shifted, 0.5)  # any value inside: below the margin cost and gradient are 0
        absent = -(shifted**self.gamma_negative) * torch.log1p(-shifted)
        return present, torch.where(above, absent, 0.0)
