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
from mmattn.training.loop.gradients import encoders


@dataclass(frozen=True)
class AdamWOneCycle:
    """`warmup` is the share of all steps in which the rate rises. Biases, norms and single vectors do not decay.

    `encoder_lr` is the encoders' learning rate over that of the rest; `layer_decay` multiplies it once more for each
    layer further from an encoder's output (Clark et al. 2020; Bao et al. 2022). Each encoder has parameter groups of
    its own, with its modality as their `part`. `fused`: all of a step in one kernel; null: on a CUDA device, unless the
    gradient has to be unscaled for clipping before (16-mixed).
    """

    lr: float
    weight_decay: float
    warmup: float
    encoder_lr: float = 1.0
    layer_decay: float = 1.0
    fused: bool | None = None

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"optim.layer_decay={self.layer_decay:g}: expected above 0, up to 1")
        if min(self.lr, self.encoder_lr) <= 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise UsageError(
                f"optim: expected lr and encoder_lr above 0, weight_decay from 0 on, warmup in [0, 1]; got {self.lr:g},"
                f" {self.encoder_lr:g}, {self.weight_decay:g}, {self.warmup:g}"
            )

    def build(
        self, model: AVModel, steps: int, more: Sequence[nn.Parameter] = (), scaled: bool = False
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """`more`: parameters that are trained beside the model's. `scaled`: their gradients are, as 16-mixed does."""
        place_of = {
            id(weight): (name, self.encoder_lr * self.layer_decay**depth)
            for name, encoder in encoders(model).items()
            for weight, depth in depths(encoder)
        }
        groups: dict[tuple[tuple[str, float], bool], list[nn.Parameter]] = {}
        for parameter in [*model.parameters(), *more]:
            place = place_of.get(id(parameter), ("rest", 1.0))
            groups.setdefault((place, parameter.ndim >= 2), []).append(parameter)
        optimizer = AdamW(
            [
                {
                    "params": parameters,
                    "part": part,
                    "weight_decay": self.weight_decay if decays else 0.0,
                    "lr": self.lr * factor,
                }
                for ((part, factor), decays), parameters in groups.items()
            ],
            betas=(0.9, 0.98),
            fused=self._fused(model, scaled) or None,
        )
        rising = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

        return optimizer, LambdaLR(optimizer, factor)

    def _fused(self, model: AVModel, scaled: bool) -> bool:
        on_cuda = all(weight.device.type == "cuda" for weight in model.parameters())
        return (on_cuda and not scaled) if self.fused is None else self.fused


def depths(encoder: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """How many layers stand between each weight and the encoder's output.

    Layers are the members of its largest list of them. What is defined before the list is one layer more than its
    first, what is defined after it is at the output (depth 0). Without a list all is at the output.
    """
    lists = {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    }
    if not lists:
        return [(weight, 0) for weight in encoder.parameters()]
    name, layers = max(lists.items(), key=lambda item: sum(weight.numel() for weight in item[1].parameters()))
    inside = f"{name}." if name else ""
    number = {child: k for k, (child, _) in enumerate(layers.named_children())}
    found, passed = [], False
    for path, weight in encoder.named_parameters():
        if path.startswith(inside):
            passed = True
            found.append((weight, len(layers) - number[path[len(inside) :].partition(".")[0]]))
        else:
            found.append((weight, 0 if passed else len(layers) + 1))
    return found
