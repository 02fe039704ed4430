"""How fast a model runs: its precision, torch.compile, and how many spans share a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from mmattn.errors import UsageError
from mmattn.process.memory import MemoryMeter

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}
AUTO = "auto"
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
GAIN = 1.05  # of throughput, below which twice the batch is not worth its memory
MEMORY_SHARE = 0.8  # of what is free, at most
TRYING_S = 20.0


@dataclass(frozen=True)
class Speed:
    """`precision`: 32, or bf16 or 16 for what torch's autocast runs so. `compile`: with torch.compile."""

    precision: str = "32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision={self.precision}: expected {', '.join(PRECISIONS)}")

    def running(self, device: str) -> AbstractContextManager:
        """In which the model is called."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype)

    def prepare(self, modules: Iterable[nn.Module], run: Callable[[], None]) -> None:
        """Compile `modules`, if that is asked for, when `run` calls them. Raises UsageError where that does not go."""
        if not self.compile:
            return
        for module in modules:
            module.compile(dynamic=True)
        try:
            run()
        except Exception as error:  # of a compiler, anything
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"compile=true: {text}; set compile=false") from None


def batch_sizes(run: Callable[[int], None], device: str) -> dict[str, float]:
    """What sizes were tried, each with its throughput, 1/s: up to where that stops growing, memory or time runs out.

    `run` calls the model with a batch of that size.
    """
    tried: dict[str, float] = {}
    memory, began, fruitless = MemoryMeter(device), time.monotonic(), 0
    # On a processor its own time: other work on the machine says nothing of the size.
    clock = time.process_time if memory.device.type == "cpu" else time.monotonic
    for size in SIZES:
        best = max(tried.values(), default=0.0)
        try:
            run(size)  # the first time a size is met, more than itself is done
            tried[str(size)] = size / max(min(_timed(lambda size=size: run(size), clock) for _ in range(2)), 1e-9)
        except (torch.OutOfMemoryError, MemoryError):
            break
        fruitless = 0 if tried[str(size)] >= GAIN * best else fruitless + 1
        if fruitless == 2 or 2 * memory.taken() > MEMORY_SHARE * memory.free or time.monotonic() - began > TRYING_S:
            break
    if not tried:
        raise UsageError(f"batch_size={AUTO}: {device} has no memory for one span")
    return tried


def _timed(run: Callable[[], None], clock: Callable[[], float]) -> float:
    since = clock()
    run()
    return clock() - since


def chosen(tried: dict[str, float]) -> int:
    """The smallest of the sizes that were tried within GAIN of the best."""
    best = max(tried.values())
    return next(int(size) for size, rate in tried.items() if rate * GAIN >= best)
