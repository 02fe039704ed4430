"""The peak of memory that work takes. torch is imported when a function is called."""

from __future__ import annotations

from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_memory(work: Any) -> int:
    """Bytes of tensors on the CPU above what there was before, at the highest point of `work`, by its allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    results: Any = profiled.profiler.kineto_results  # type: ignore[union-attr]  (events() loses allocations' order)
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    highest = now = 0
    for _, change in changes:
        now += change
        highest = max(highest, now)
    return highest
