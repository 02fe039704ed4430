"""engine=local: processes on this machine, one for each GPU or core."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.engines.local_driver import run_local
from mmattn.inference.jobs.job import Job
from mmattn.process.openmp import cores


@dataclass(frozen=True)
class LocalEngine:
    """`workers`: processes that hold the model; 0: one for each GPU, or for each core. Settings are the job's."""

    workers: int

    def __post_init__(self) -> None:
        check_workers(self.workers)

    def run(self, job: Job, shards: Sequence[int], wait: bool = True) -> None:
        """`wait`: also until what others work on is done. Raises MmattnError where work cannot go on; what is answered
        stays."""
        settings = job.settings()
        devices = _devices(str(settings["device"]), self.workers, len(shards))
        command = [sys.executable, "-P", "-m", "mmattn.inference.engines.process", str(job.root)]
        decoders = settings["decoders"] or max(1, cores() // len(devices))
        threads = max(1, cores() // len(devices))
        run_local(job, shards, [*command, str(decoders)], devices, threads, wait)


def check_workers(workers: int) -> None:
    if workers < 0:
        raise UsageError(f"engine.workers={workers}: expected 0 or more")


def _devices(asked: str, workers: int, shards: int) -> list[str]:
    """One for each working process. Never more than shards."""
    if asked in ("auto", "cuda"):
        found = Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
        if found or asked == "cuda":
            import torch

            if count := torch.cuda.device_count():
                return [f"cuda:{k % count}" for k in range(min(workers or count, shards))]
        asked = "cpu" if asked == "auto" else asked
    return [asked] * min(workers or (cores() if asked == "cpu" else 1), shards)
