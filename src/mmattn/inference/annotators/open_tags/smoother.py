"""Averages the scores of consecutive steps."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Smoother:
    """Averages each step with up to `reach` steps on either side; at the ends there are fewer.

    `add` returns the steps whose neighbours are known, `finish` the rest. Only neighbours are kept in memory.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self._rows: Tensor | None = None  # those that are still needed
        self._returned = 0  # how many of these were returned

    def add(self, scores: Float[Tensor, "S K"]) -> Float[Tensor, "R K"]:
        """Add S steps; returns the means of the R steps that are now complete."""
        self._rows = scores if self._rows is None else torch.cat([self._rows, scores])
        return self._means(self._rows, max(self._returned, len(self._rows) - self.reach))

    def finish(self) -> Float[Tensor, "R K"] | None:
        """The means of the remaining steps; None if there never was a step."""
        return None if self._rows is None else self._means(self._rows, len(self._rows))

    def _means(self, rows: Tensor, until: int) -> Float[Tensor, "R K"]:
        reach = self.reach
        means = [rows[max(0, i - reach) : i + reach + 1].mean(dim=0) for i in range(self._returned, until)]
        past = max(0, until - reach)
        self._rows, self._returned = rows[past:], until - past
        return torch.stack(means) if means else rows[:0]
