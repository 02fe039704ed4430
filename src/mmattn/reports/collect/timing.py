"""How long forward passes take on the CPU or a GPU, with their spread; and the memory that a GPU's allocator held."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmattn.model import AVModel
from mmattn.types import Batch

ROUNDS, LONGEST_S = 15, 3.0  # timed passes of a model, and the most time for all of them
_WARM_UP = 3  # on a GPU, whose first passes compile and choose kernels


@dataclass(frozen=True)
class Timed:
    """The median of the passes in ms, and their quartiles."""

    ms: float
    low: float
    high: float


@dataclass(frozen=True)
class OnGpu:
    """The cost of one clip on a GPU. `peak_bytes`: the most that its allocator held beside the weights."""

    gpu: str
    time: Timed
    peak_bytes: int


def timed(
    forwards: Mapping[int, Callable[[], Any]], clock: Callable[[], float] = time.process_time
) -> dict[int, Timed]:
    """Time the passes in turns, so that other work on the machine disturbs all alike. `clock`: seconds."""
    times: dict[int, list[float]] = {i: [] for i in forwards}
    for forward in forwards.values():
        forward()
    for _ in range(ROUNDS):
        for i, forward in forwards.items():
            if len(times[i]) >= 3 and sum(times[i]) > LONGEST_S:
                continue
            started = clock()
            forward()
            times[i].append(clock() - started)
    return {i: _spread([1000 * one for one in values]) for i, values in times.items()}


def timed_on_gpu(models: Mapping[int, tuple[AVModel, Batch]]) -> dict[int, OnGpu]:
    """The cost of each model on one clip, on the first GPU; {} without a GPU."""
    if not models or not torch.cuda.is_available():
        return {}
    name, forwards, peaks = torch.cuda.get_device_name(0), {}, {}

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    with torch.no_grad():
        for i, (model, batch) in models.items():
            there, clip = copy.deepcopy(model).to("cuda"), batch.to("cuda")
            for _ in range(_WARM_UP):
                there(clip)
            clock()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            there(clip)
            clock()
            peaks[i] = torch.cuda.max_memory_allocated() - before
            forwards[i] = lambda there=there, clip=clip: there(clip)
        found = timed(forwards, clock)
    return {i: OnGpu(name, one, peaks[i]) for i, one in found.items()}


def _spread(values: list[float]) -> Timed:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Timed(middle, low, high)
