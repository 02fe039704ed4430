"""engine=local: processes on this machine, one for each GPU or core."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.errors import UsageError
from mmattn.inference.engines.local_driver import run_local
from mmattn.inference.jobs.job import Job
from mmattn.process.device import has_gpu
from mmattn.process.openmp import cores


@dataclass(frozen=True)
class LocalEngine:
    """`workers`: processes that hold the model; 0: one for each GPU, or for each core. All else is in the job."""

    workers: int

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def run(self, job: Job, shards: Sequence[int], wait: bool = True) -> None:
        """Process `shards`. `wait`: also until those that other commands hold are done.

        Raises MmattnError if work cannot continue; records made so far are kept.
        """
        settings = job.settings()
        devices = _devices(str(settings["device"]), self.workers, len(shards))
        command = [sys.executable, "-P", "-m", "mmattn.inference.engines.process", str(job.root)]
        threads = max(1, cores() // len(devices))
        run_local(job, shards, [*command, str(settings["decoders"] or threads)], devices, threads, wait)


def check_workers(workers: int) -> None:
    """Raise UsageError for a negative number."""
    if workers < 0:
        raise UsageError(f"engine.workers={workers}: expected 0 or more")


def _devices(device: str, workers: int, shards: int) -> list[str]:
    """The device of each worker, at most as many as shards."""
    if device in ("auto", "cuda") and has_gpu():
        import torch

        if count := torch.cuda.device_count():
            return [f"cuda:{k % count}" for k in range(min(workers or count, shards))]
    device = "cpu" if device == "auto" else device
    return [device] * min(workers or (cores() if device == "cpu" else 1), shards)
