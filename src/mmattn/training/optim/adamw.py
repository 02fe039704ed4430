"""The optimizer and its schedule: AdamW with a linear warm-up and a cosine decay to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from mmattn.config.compose import Config, build
from mmattn.errors import UsageError
from mmattn.model import AVModel
from mmattn.training.optim.gradients import encoders
from mmattn.types import Modality


@dataclass(frozen=True)
class AdamWOneCycle:
    """`warmup`: share of all steps in which the learning rate rises. Biases, norms and vectors have no weight decay.

    `encoder_lr`: learning rate of the encoders relative to the rest; `layer_decay`: factor for each layer further from
    an encoder's output (Clark et al. 2020; Bao et al. 2022). Each encoder has parameter groups of its own, with its
    modality as their `part`. `fused`: AdamW in one kernel; None: on a CUDA device, unless gradients have to be unscaled
    before clipping (16-mixed).

    Where `encoder_lr` is None, encoders of the modalities in `pretrained`, which are fine-tuned from pretrained
    weights, train at `pretrained_lr` with `pretrained_decay` per layer, as in their papers; everything else at `lr`.
    """

    lr: float
    weight_decay: float
    warmup: float
    encoder_lr: float | None = None
    layer_decay: float | None = None
    pretrained_lr: float = 3e-5
    pretrained_decay: float = 0.75
    pretrained: tuple[Modality, ...] = ()
    fused: bool | None = None

    def __post_init__(self) -> None:
        for name in ("layer_decay", "pretrained_decay"):
            if not 0 < (1.0 if getattr(self, name) is None else getattr(self, name)) <= 1:
                raise UsageError(f"optim.{name}={getattr(self, name):g}: expected more than 0 and at most 1")
        encoder_lr = 1.0 if self.encoder_lr is None else self.encoder_lr
        if min(self.lr, encoder_lr, self.pretrained_lr) <= 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise UsageError(
                "optim: expected lr, encoder_lr and pretrained_lr above 0, weight_decay of 0 or more, "
                f"warmup in [0, 1]; got {self.lr:g}, {encoder_lr:g}, {self.pretrained_lr:g}, "
                f"{self.weight_decay:g}, {self.warmup:g}"
            )

    def build(
        self, model: AVModel, steps: int, more: Sequence[nn.Parameter] = (), scaled: bool = False
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """`more`: parameters besides those of the model. `scaled`: whether gradients are scaled (16-mixed)."""
        place_of = {
            id(weight): (name, factor)
            for name, encoder in encoders(model).items()
            for weight, factor in self._factors(name, encoder)
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

    def _factors(self, name: Modality, encoder: nn.Module) -> list[tuple[nn.Parameter, float]]:
        """The learning rate of each weight over `lr`. Weights added to a pretrained network train at `lr`."""
        if self.encoder_lr is not None or name not in self.pretrained:
            first = 1.0 if self.encoder_lr is None else self.encoder_lr
            decay = 1.0 if self.layer_decay is None else self.layer_decay
            return [(weight, first * decay**depth) for weight, depth in depths(encoder)]
        decay = self.pretrained_decay if self.layer_decay is None else self.layer_decay
        pretrained = {id(weight) for weight in getattr(encoder, "backbone", encoder).parameters()}
        first = self.pretrained_lr / self.lr
        return [
            (weight, first * decay**depth if id(weight) in pretrained else 1.0) for weight, depth in depths(encoder)
        ]


def optim_of(config: Config) -> AdamWOneCycle:
    """The config group `optim`, with the encoders that the config fine-tunes from pretrained weights."""
    parts: dict[str, Modality] = {"visual": "video", "audio": "audio"}
    tuned = [part for part in parts if config[part].get("pretrained") and config[part].get("mode") == "finetune"]
    return replace(build(config["optim"]), pretrained=tuple(parts[part] for part in tuned))


def depths(encoder: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """The number of layers between each weight and the encoder's output.

    Layers are the members of the encoder's largest layer list. Weights defined before the list are one layer deeper
    than its first; weights defined after it, and all weights of an encoder without a list, have depth 0.
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
