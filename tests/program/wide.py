"""Training in float64, to compare with: sums in any order are then the same but for a billionth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mmattn.training.run import train
from mmattn.types import Batch, _map_tensors


@contextmanager
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While the body runs, models that are trained are float64 from the weights that they would have on."""
    build, move = train.build_model, Batch.to

    def build_wide(*args: Any) -> Any:
        with default(torch.float32):
            return build(*args).double()

    def wide(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    with monkeypatch.context() as patched, default(torch.float64):
        patched.setattr(train, "build_model", build_wide)
        patched.setattr(Tensor, "float", Tensor.double)
        patched.setattr(Batch, "to", lambda batch, device: _map_tensors(move(batch, device), wide))
        yield


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
