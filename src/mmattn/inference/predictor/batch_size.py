"""Measures which batch size gives a model the highest throughput."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from mmattn.errors import UsageError
from mmattn.process.memory import MemoryMeter

AUTO = "auto"
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
MIN_GAIN = 1.05  # of throughput, for which doubling the batch is worth its memory
MEMORY_SHARE = 0.8  # of the free memory, at most
MAX_MEASURING_S = 20.0


def measure_batch_sizes(run: Callable[[int], None], device: str) -> dict[str, float]:
    """The throughput (1/s) of each size tried, until it stops growing or memory or time runs out.

    `run` calls the model with a batch of the given size.
    """
    tried: dict[str, float] = {}
    memory, began, without_gain = MemoryMeter(device), time.monotonic(), 0
    # On a CPU its own time is measured, which other work on the machine does not change.
    clock = time.process_time if memory.device.type == "cpu" else time.monotonic
    for size in SIZES:
        best = max(tried.values(), default=0.0)
        try:
            run(size)  # the first call with a size does extra work
            tried[str(size)] = size / max(min(_timed(lambda size=size: run(size), clock) for _ in range(2)), 1e-9)
        except (torch.OutOfMemoryError, MemoryError):
            break
        without_gain = 0 if tried[str(size)] >= MIN_GAIN * best else without_gain + 1
        is_full = 2 * memory.taken() > MEMORY_SHARE * memory.free
        if without_gain == 2 or is_full or time.monotonic() - began > MAX_MEASURING_S:
            break
    if not tried:
        raise UsageError(f"batch_size={AUTO}: {device} has no memory for one span")
    return tried


def best_batch_size(tried: dict[str, float]) -> int:
    """The smallest size whose throughput is within MIN_GAIN of the best."""
    best = max(tried.values())
    return next(int(size) for size, rate in tried.items() if rate * MIN_GAIN >= best)


def _timed(run: Callable[[], None], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start
