"""Gradient share of each encoder: |g_m| / (|g_video| + |g_audio|), with L2 norms over all its weights.

Measured on the gradient that the optimizer is about to use: summed over accumulated batches, averaged over processes,
unscaled, before clipping (which would not change the share).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mmattn.model import AVModel
from mmattn.training.distributed.meter import wide
from mmattn.types import MODALITIES, Modality


def encoders(model: AVModel) -> dict[Modality, nn.Module]:
    """The encoder of each modality."""
    return {"video": model.visual, "audio": model.audio}


def gradient_norm(module: nn.Module) -> Tensor:
    """L2 norm over all gradients; 0 where there are none, as in a frozen encoder."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=next((p.device for p in module.parameters()), None))
    norm = get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm  # sharded over several processes


class GradientMeter:
    """Gradient shares of each step, and their means since the last `reset`. Kept on the device until read."""

    _NAMES = (*(f"share/{m}" for m in MODALITIES), *(f"norm/{m}" for m in MODALITIES))

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over, with no steps counted."""
        self._sums = torch.zeros(1 + len(self._NAMES), dtype=torch.float64)  # steps, then the sums of each name

    def update(self, model: AVModel) -> dict[str, Tensor]:
        """Share and norm of this step by modality.

        NaN when no encoder has a finite gradient: both are frozen, or fp16 overflowed and the step is skipped.
        """
        norms = torch.stack([wide(gradient_norm(encoder)) for encoder in encoders(model).values()])
        total = norms.sum()
        counted = (total > 0) & total.isfinite()
        values = torch.cat([norms / total, norms])
        step = torch.where(counted, torch.cat([torch.ones_like(total)[None], values]), 0.0)
        self._sums = self._sums.to(step) + step
        return dict(zip(self._NAMES, torch.where(counted, values, torch.nan), strict=True))

    def result(self) -> dict[str, Any] | None:
        """Means over the steps; None when no step had a gradient in any encoder."""
        steps, *totals = self._sums.tolist()
        if not steps:
            return None
        mean = {name: total / steps for name, total in zip(self._NAMES, totals, strict=True)}
        shares, norms = ({m: mean[f"{what}/{m}"] for m in MODALITIES} for what in ("share", "norm"))
        return {**shares, "norm": norms, "steps": int(steps)}

    def state_dict(self) -> dict[str, Any]:
        """The number of steps and the sum of each figure over them."""
        steps, *totals = self._sums.tolist()
        return {"steps": int(steps), "sums": dict(zip(self._NAMES, totals, strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        numbers = [state["steps"], *(state["sums"][name] for name in self._NAMES)]
        self._sums = torch.tensor(numbers, dtype=torch.float64)
