"""Preprocessing in float32, also where autocast runs the network in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


def full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def in_float32(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate the forward of a front end: its first argument becomes float32, and autocast is off."""

    @wraps(forward)
    def run(self: nn.Module, waveform: Tensor, *rest: Any) -> Tensor:
        with full_precision(waveform.device):
            return forward(self, waveform.float(), *rest)

    return run
