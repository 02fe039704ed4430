"""engine=slurm: an array of Slurm tasks, submitted through submitit.

Each task starts with its own shards and continues with those that no other task holds. A preempted task is requeued,
and its shards continue where their journals end; the shards of a lost task are submitted again. The tasks continue when
this process ends, and the same command then finds what they have done.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError, UsageError, first_line
from mmattn.inference.engines.local import LocalEngine, check_workers
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import JobProgress
from mmattn.process.squeue import explain, queued
from mmattn.process.startup import SAFE, safe_children
from mmattn.progress import Progress, log

_CHECK_S = 2.0
_QUEUE_S = 10.0  # from one query of Slurm's queue to the next


@dataclass(frozen=True)
class SlurmEngine:
    """At most `tasks` at once, each with `cpus` cores, `gpus` GPUs and `memory_gb` for at most `minutes`.

    `cluster`: slurm, or local to run the tasks on this machine. `workers`: of the local engine in each task.
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
        """Process `shards`. Raises UsageError without submitit or Slurm, MmattnError for a failed task."""
        executor = self._executor(job)
        job_progress = JobProgress(job, shards)
        todo, done_before, failure = list(shards), -1, None
        with Progress("predicting", job_progress.total) as progress:
            while todo:
                if free := [shard for shard in todo if not job.lease(shard).is_held()]:
                    if job_progress.done() == done_before:
                        raise failure or MmattnError(
                            f"{job.root}: its tasks processed nothing; see their logs in slurm/"
                        )
                    done_before = job_progress.done()
                    failure = self._run_array(executor, job, free, job_progress, progress)
                else:  # tasks of an earlier command hold what is left
                    time.sleep(_CHECK_S)
                    progress.at(job_progress.done(), failed=job_progress.failed)
                todo = [shard for shard in todo if not job.is_done(shard)]
        job.tidy()

    def _executor(self, job: Job) -> Any:
        try:
            import submitit
        except ImportError:
            raise UsageError("engine=slurm needs submitit: pip install 'mmattn[slurm]'") from None
        try:
            executor = submitit.AutoExecutor(folder=str(job.root.absolute() / "slurm"), cluster=self.cluster)
        except RuntimeError as error:
            raise UsageError(f"engine=slurm: {first_line(error)}") from None
        executor.update_parameters(
            name="mmattn-predict",
            timeout_min=self.minutes,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus,
            mem_gb=self.memory_gb,
            slurm_array_parallelism=self.tasks,
            slurm_setup=[f"export {name}={value}" for name, value in SAFE.items()],
            **({"slurm_partition": self.partition} if self.partition else {}),
        )
        return executor

    def _run_array(
        self, executor: Any, job: Job, shards: list[int], job_progress: JobProgress, progress: Progress
    ) -> MmattnError | None:
        """Run one array of tasks to its end; returns the error of a failed task."""
        count = min(self.tasks, len(shards))
        task = _Task(str(job.root.absolute()), self.workers)
        try:
            # Each task starts with its own shards and may continue with any.
            # submitit also prints the errors it raises; its own command has no -P
            with redirect_stderr(io.StringIO()), safe_children():
                tasks = executor.map_array(task, [shards[k::count] + _without(shards, k, count) for k in range(count)])
        except Exception as error:  # submitit's own, and those of sbatch
            raise UsageError(f"engine=slurm: cannot submit: {_reason(error)}") from None
        try:
            self._wait(tasks, job_progress, progress)
        except KeyboardInterrupt:
            if self.cluster == "local":
                for each in tasks:
                    each.cancel()
            raise
        return next((fault for each in tasks if (fault := _fault(each))), None)

    def _wait(self, tasks: list[Any], job_progress: JobProgress, progress: Progress) -> None:
        """Wait until each task has left a result, or is in no queue."""
        queried, reported, running = time.monotonic(), set(), list(tasks)
        while running:
            time.sleep(_CHECK_S)
            progress.at(job_progress.done(), failed=job_progress.failed)
            running = [each for each in running if not _has_ended(each, self.cluster)]
            if self.cluster == "slurm" and time.monotonic() - queried >= _QUEUE_S:
                queried = time.monotonic()
                if found := queued(each.job_id for each in running):
                    running = [each for each in running if each.job_id in found.tasks]
                    for reason in found.reasons - reported:
                        reported.add(reason)
                        log(f"tasks {explain(reason)}")


def _has_ended(task: Any, cluster: str) -> bool:
    if cluster == "local":
        return task.done()
    folder = task.paths.folder
    with suppress(OSError):
        os.utime(folder)  # makes NFS refresh the folder
    return task.paths.result_pickle.exists()


def _fault(task: Any) -> MmattnError | None:
    """The error of a task that has ended, None if it succeeded."""
    log = f"its log is {task.paths.stderr}"
    if not task.paths.result_pickle.exists():
        return MmattnError(f"task {task.job_id} ended without a result: cancelled, or lost with its node; {log}")
    error = task.exception()
    return MmattnError(f"task {task.job_id}: {_reason(error)}; {log}") if error else None


def _without(shards: list[int], k: int, count: int) -> list[int]:
    """The shards of the other tasks, starting after those of task `k`."""
    own = set(shards[k::count])
    return [shard for shard in [*shards[k:], *shards[:k]] if shard not in own]


def _reason(error: BaseException) -> str:
    """The last line of an error that is not empty; for a failed command, of its stderr."""
    text = getattr(error, "stderr", None) or str(error)
    lines = [line.strip() for line in (text if isinstance(text, str) else text.decode()).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@dataclass(frozen=True)
class _Task:
    """What a task runs. submitit handles SIGTERM there: it waits for the signal that follows."""

    root: str
    workers: int

    def __call__(self, shards: list[int]) -> None:
        job = Job(Path(self.root))
        is_open = set(job.open_shards())
        if todo := [shard for shard in shards if shard in is_open]:
            LocalEngine(self.workers).run(job, todo, wait=False)

    def checkpoint(self, shards: list[int]) -> Any:
        """What submitit requeues when the task is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shards)
