"""Random streams that depend only on their key, not on process or order.

Every augmentation uses a stream with its own name, so that enabling one does not change what the others draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One sample of one epoch. `repeat`: how often the epoch drew this clip before (sampling with replacement)."""

    seed: int
    epoch: int
    index: int
    repeat: int = 0

    def stream(self, name: str) -> random.Random:
        """The random stream called `name`."""
        return random.Random(f"{self.seed}/{self.epoch}/{self.index}/{self.repeat}/{name}")
