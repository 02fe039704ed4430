"""A device without float64 (Apple's), played by the processor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmattn import types


class _NoFloat64(TorchDispatchMode):
    """Fails as such a device does: on any operation that gives or gets float64."""

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in tree_leaves((args, kwargs, result))):
            raise TypeError(f"{func}: the device has no float64")
        return result


@contextmanager
def no_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, any operation that gives or gets float64 fails; `WITHOUT_FLOAT64` names the device."""
    with monkeypatch.context() as patch, _NoFloat64():
        patch.setattr(types, "WITHOUT_FLOAT64", {"cpu"})
        yield
