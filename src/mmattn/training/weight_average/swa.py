"""weight_average=swa: the plain mean of the weights of the last steps."""

from __future__ import annotations

from mmattn.errors import UsageError
from mmattn.training.weight_average.interface import WeightAverage


class StochasticAverage(WeightAverage):
    """The plain mean of the weights after each step of the last 1 - `start` of training (Izmailov et al. 2018)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        if not 0 <= start < 1:
            raise UsageError(f"weight_average.start={start:g}: expected at least 0 and below 1")
        self.start = start

    def share(self, progress: float) -> float | None:
        return 1 / (self._steps + 1) if progress > self.start else None
