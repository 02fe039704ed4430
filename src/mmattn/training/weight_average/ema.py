"""weight_average=ema: an exponential moving average of the weights."""

from __future__ import annotations

from mmattn.errors import UsageError
from mmattn.training.weight_average.interface import WeightAverage


class ExponentialAverage(WeightAverage):
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at step n.

    The warm-up, TensorFlow's, keeps the initial weights out of the average of a short run (Polyak & Juditsky 1992).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UsageError(f"weight_average.decay={decay:g}: expected at least 0 and below 1")
        self.decay = decay

    def share(self, progress: float) -> float:
        return 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
