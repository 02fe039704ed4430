"""engine=slurm: an array of Slurm tasks, submitted through submitit, each with shards of its own.

A task that is preempted goes back into the queue with what it was given, and on where its journals end. When this
process ends, the tasks go on; the same command then finds what they have done. Two that were given the same shard do
not disturb each other: the second waits, and finds it done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError, UsageError
from mmattn.inference.engines.local import LocalEngine, check_workers
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.orders import Tally
from mmattn.progress import Progress

_LOOK_S = 2.0


@dataclass(frozen=True)
class SlurmEngine:
    """`tasks` at once at most, each with `cpus` cores, `gpus` GPUs and `memory_gb` for at most `minutes`.

    `cluster`: slurm, or local to try it out on this machine. `workers`: as of the local engine, in each task.
    """

    tasks: int
    cpus: int
    gpus: int
    memory_gb: float
    minutes: int
    partition: str | None
    workers: int
    cluster: str

    def __post_init__(self) -> None:
        if self.cluster not in ("slurm", "local"):
            raise UsageError(f"engine.cluster={self.cluster}: expected slurm or local")
        for key in ("tasks", "cpus", "minutes"):
            if getattr(self, key) < 1:
                raise UsageError(f"engine.{key}={getattr(self, key)}: expected 1 or more")
        check_workers(self.workers)

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Submit, and wait until all is done. Raises UsageError without submitit or Slurm, MmattnError for a task."""
        try:
            import submitit
        except ImportError:
            raise UsageError("engine=slurm needs submitit: pip install 'mmattn[slurm]'") from None
        try:
            executor = submitit.AutoExecutor(folder=str(job.root.absolute() / "slurm"), cluster=self.cluster)
        except RuntimeError as error:
            raise UsageError(f"engine=slurm: {str(error).splitlines()[0]}") from None
        executor.update_parameters(
            name="mmattn-predict",
            timeout_min=self.minutes,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus,
            mem_gb=self.memory_gb,
            slurm_array_parallelism=self.tasks,
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        count = min(self.tasks, len(shards))
        task = _Task(str(job.root.absolute()), self.workers)
        submitted = executor.map_array(task, [list(shards[k::count]) for k in range(count)])
        try:
            self._wait(job, shards, submitted)
        except KeyboardInterrupt:
            if self.cluster == "local":
                for each in submitted:
                    each.cancel()
            raise

    def _wait(self, job: Job, shards: Sequence[int], submitted: list[Any]) -> None:
        tally = Tally(job, shards)
        with Progress("predicting", tally.total) as progress:
            while not all(each.done() for each in submitted):
                time.sleep(_LOOK_S)
                progress.at(tally.answered(), failed=tally.failed)
            progress.at(tally.answered(), failed=tally.failed)
        for each in submitted:
            if error := each.exception():
                last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise MmattnError(f"task {each.job_id}: {last[0]}; its log is {each.paths.stderr}")


@dataclass(frozen=True)
class _Task:
    """Travels to the task."""

    root: str
    workers: int

    def __call__(self, shards: list[int]) -> None:
        job = Job(Path(self.root))
        still = set(job.open_shards())
        if todo := [shard for shard in shards if shard in still]:
            LocalEngine(self.workers).run(job, todo)

    def checkpoint(self, shards: list[int]) -> Any:
        """What submitit puts into the queue when the task is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shards)
