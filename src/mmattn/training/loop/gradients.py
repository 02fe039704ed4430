"""Gradient share: which encoder training works on, |g_m| / (|g_video| + |g_audio|) with L2 norms over all its weights.

Read from the gradient that the optimizer is about to use: summed over accumulated batches, averaged over processes,
unscaled, before clipping (which would not change the share).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from mmattn.model import AVModel
from mmattn.types import MODALITIES, Modality


def encoders(model: AVModel) -> dict[Modality, nn.Module]:
    """The encoder that each modality comes through."""
    return {"video": model.visual, "audio": model.audio}


def gradient_norm(module: nn.Module) -> Tensor:
    """L2 norm over all the gradients that there are; 0 where there is none, as in a frozen encoder."""
    norm = get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm  # of shares that several processes hold


class GradientMeter:
    """The share of each step, and its mean over the steps since the last `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._steps = 0
        self._sums = dict.fromkeys([*(f"share/{m}" for m in MODALITIES), *(f"norm/{m}" for m in MODALITIES)], 0.0)

    def update(self, model: AVModel) -> dict[str, float]:
        """This step's numbers: share and norm by modality. Empty when no encoder has a finite gradient to share."""
        norms = {name: float(gradient_norm(encoder)) for name, encoder in encoders(model).items()}
        total = sum(norms.values())
        if not 0 < total < float("inf"):  # both frozen, or a 16-bit overflow, whose step is skipped
            return {}
        values = {f"share/{m}": norm / total for m, norm in norms.items()}
        values |= {f"norm/{m}": norm for m, norm in norms.items()}
        self._steps += 1
        for name, value in values.items():
            self._sums[name] += value
        return values

    def result(self) -> dict[str, Any] | None:
        """Means over the steps; None when no step had a gradient in an encoder."""
        if not self._steps:
            return None
        mean = {name: total / self._steps for name, total in self._sums.items()}
        shares, norms = ({m: mean[f"{what}/{m}"] for m in MODALITIES} for what in ("share", "norm"))
        return {**shares, "norm": norms, "steps": self._steps}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps, self._sums = state["steps"], dict(state["sums"])
