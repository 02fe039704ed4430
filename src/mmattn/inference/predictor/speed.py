"""The precision a model runs in, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from mmattn.errors import UsageError, first_line

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class Speed:
    """`precision`: 32, or bf16 or 16 for torch's autocast. `compile`: use torch.compile."""

    precision: str = "32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision={self.precision}: expected {', '.join(PRECISIONS)}")

    def running(self, device: str) -> AbstractContextManager:
        """The context in which to call the model."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype)

    def prepare(self, modules: Iterable[nn.Module], run: Callable[[], None]) -> None:
        """Compile `modules` if `compile` is set, by calling `run`. Raises UsageError if they cannot be compiled."""
        if not self.compile:
            return
        for module in modules:
            module.compile(dynamic=True)
        try:
            run()
        except Exception as error:  # a compiler may raise anything
            raise UsageError(f"compile=true: {first_line(error)}; set compile=false") from None
