"""The optimizer and its schedule: AdamW with a linear warm-up and a cosine decay to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.gradients import encoders


@dataclass(frozen=True)
class AdamWOneCycle:
    """`warmup` is the share of all steps in which the rate rises. Biases, norms and single vectors do not decay.

    `encoder_lr` is the encoders' learning rate over that of the rest. Each encoder has parameter groups of its own,
    with its modality as their `part`.
    """

    lr: float
    weight_decay: float
    warmup: float
    encoder_lr: float = 1.0

    def __post_init__(self) -> None:
        if min(self.lr, self.encoder_lr) <= 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise UsageError(
                f"optim: expected lr and encoder_lr above 0, weight_decay from 0 on, warmup in [0, 1]; got {self.lr:g},"
                f" {self.encoder_lr:g}, {self.weight_decay:g}, {self.warmup:g}"
            )

    def build(
        self, model: AVModel, steps: int, more: Sequence[nn.Parameter] = ()
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """`more`: parameters that are trained beside the model's."""
        part_of = {id(p): name for name, encoder in encoders(model).items() for p in encoder.parameters()}
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for parameter in [*model.parameters(), *more]:
            groups.setdefault((part_of.get(id(parameter), "rest"), parameter.ndim >= 2), []).append(parameter)
        optimizer = AdamW(
            [
                {
                    "params": parameters,
                    "part": part,
                    "weight_decay": self.weight_decay if decays else 0.0,
                    "lr": self.lr * (1.0 if part == "rest" else self.encoder_lr),
                }
                for (part, decays), parameters in groups.items()
            ],
            betas=(0.9, 0.98),
        )
        rising = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

        return optimizer, LambdaLR(optimizer, factor)
