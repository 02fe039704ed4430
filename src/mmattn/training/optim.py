"""The optimizer and its schedule: AdamW with a linear warm-up and a cosine decay to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mmattn.errors import UsageError


@dataclass(frozen=True)
class AdamWOneCycle:
    """`warmup` is the share of all steps in which the rate rises. Biases, norms and single vectors do not decay."""

    lr: float
    weight_decay: float
    warmup: float

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise UsageError(
                f"optim: expected lr above 0, weight_decay from 0 on, warmup in [0, 1]; got {self.lr:g}, "
                f"{self.weight_decay:g}, {self.warmup:g}"
            )

    def build(self, model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        decay = [p for p in model.parameters() if p.ndim >= 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": self.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=self.lr, betas=(0.9, 0.98))
        rising = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

        return optimizer, LambdaLR(optimizer, factor)
