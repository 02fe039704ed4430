"""Scores of steps that come in turn, each made the mean over itself and its neighbours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Smoother:
    """`add` gives the steps whose neighbours are known, `finish` those that are left; memory is for neighbours alone.

    `reach`: so many steps on either side count. At the ends there are fewer.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self._rows: Tensor | None = None  # those that may still count
        self._given = 0  # how many of these were given out

    def add(self, scores: Float[Tensor, "S K"]) -> Float[Tensor, "R K"]:
        self._rows = scores if self._rows is None else torch.cat([self._rows, scores])
        return self._give(max(self._given, len(self._rows) - self.reach))

    def finish(self) -> Float[Tensor, "R K"] | None:
        """None where there never was a step."""
        return None if self._rows is None else self._give(len(self._rows))

    def _give(self, until: int) -> Float[Tensor, "R K"]:
        rows, reach = self._rows, self.reach
        assert rows is not None
        means = [rows[max(0, i - reach) : i + reach + 1].mean(dim=0) for i in range(self._given, until)]
        past = max(0, until - reach)
        self._rows, self._given = rows[past:], until - past
        return torch.stack(means) if means else rows[:0]
