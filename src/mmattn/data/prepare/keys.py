"""Where randomness comes from: streams that depend on their key alone, whatever process or order asks for them.

Every augmentation has a stream of its own name: turning one on leaves what the others draw as it was.
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
        return random.Random(f"{self.seed}/{self.epoch}/{self.index}/{self.repeat}/{name}")
