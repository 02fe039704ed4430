"""Memory meters, for processors and GPUs. torch is imported only inside functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class MemoryMeter:
    """The memory of a device in bytes: `free` when the meter was made, and the peak that was taken since.

    On a CPU it is the peak of this process (VmHWM), which never falls; on a GPU what torch's allocator reserved.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.free = torch.cuda.mem_get_info(self.device)[0]
        else:
            self.free = _kernel_figure(Path("/proc/meminfo"), "MemAvailable") or 1 << 62
        self.before = self._peak()

    def taken(self) -> int:
        """Bytes taken at the peak since the meter was made."""
        return self._peak() - self.before

    def _peak(self) -> int:
        import torch

        if self.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self.device)
        return _kernel_figure(Path("/proc/self/status"), "VmHWM")


def peak_memory(work: Callable[[], Any]) -> int:
    """Bytes of tensors on the CPU above those at the start, at the peak of `work`, from torch's allocator."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    results: Any = profiled.profiler.kineto_results  # type: ignore[union-attr]  (events() loses allocations' order)
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    highest = now = 0
    for _, change in changes:
        now += change
        highest = max(highest, now)
    return highest


def _kernel_figure(file: Path, name: str) -> int:
    """Bytes; 0 where the system does not report it."""
    if not file.exists():
        return 0
    return next((int(line.split()[1]) << 10 for line in file.read_text().splitlines() if line.startswith(name)), 0)
