"""engine=slurm: an array of Slurm tasks, submitted through submitit.

Each task begins with shards of its own and goes on with what no other task works on. One that is preempted goes back
into the queue, and its shards on where their journals end; what a lost one leaves is submitted again. When this process
ends, the tasks go on; the same command then finds what they have done.
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

from mmattn.errors import MmattnError, UsageError
from mmattn.inference.engines.local import LocalEngine, check_workers
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import Tally
from mmattn.process.squeue import explain, queued
from mmattn.process.startup import SAFE, safe_children
from mmattn.progress import Progress, say

_LOOK_S = 2.0
_QUEUE_S = 10.0  # how often Slurm is asked for its queue


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
        executor = self._executor(job)
        tally = Tally(job, shards)
        todo, answered, failure = list(shards), -1, None
        with Progress("predicting", tally.total) as progress:
            while todo:
                if free := [shard for shard in todo if not job.lease(shard).is_held()]:
                    if tally.answered() == answered:
                        raise failure or MmattnError(
                            f"{job.root}: its tasks answered nothing; see their logs in slurm/"
                        )
                    answered = tally.answered()
                    failure = self._round(executor, job, free, tally, progress)
                else:  # tasks of an earlier command do what is left
                    time.sleep(_LOOK_S)
                    progress.at(tally.answered(), failed=tally.failed)
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
            raise UsageError(f"engine=slurm: {str(error).splitlines()[0]}") from None
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

    def _round(
        self, executor: Any, job: Job, shards: list[int], tally: Tally, progress: Progress
    ) -> MmattnError | None:
        """One array of tasks, until all have ended; what went wrong with one of them."""
        count = min(self.tasks, len(shards))
        task = _Task(str(job.root.absolute()), self.workers)
        try:
            # Each begins with other shards than the rest, and may go on with any.
            # submitit prints what it raises, too; its own command has no -P
            with redirect_stderr(io.StringIO()), safe_children():
                tasks = executor.map_array(task, [shards[k::count] + _without(shards, k, count) for k in range(count)])
        except Exception as error:  # submitit raises its own, and what its call of sbatch does
            raise UsageError(f"engine=slurm: cannot submit: {_reason(error)}") from None
        try:
            self._wait(tasks, tally, progress)
        except KeyboardInterrupt:
            if self.cluster == "local":
                for each in tasks:
                    each.cancel()
            raise
        return next((fault for each in tasks if (fault := _fault(each))), None)

    def _wait(self, tasks: list[Any], tally: Tally, progress: Progress) -> None:
        """Until each has said how it ended, or is in no queue any more."""
        asked, reported, under_way = time.monotonic(), set(), list(tasks)
        while under_way:
            time.sleep(_LOOK_S)
            progress.at(tally.answered(), failed=tally.failed)
            under_way = [each for each in under_way if not _has_ended(each, self.cluster)]
            if self.cluster == "slurm" and time.monotonic() - asked >= _QUEUE_S:
                asked = time.monotonic()
                if found := queued(each.job_id for each in under_way):
                    under_way = [each for each in under_way if each.job_id in found.tasks]
                    for reason in found.reasons - reported:
                        reported.add(reason)
                        say(f"tasks {explain(reason)}")


def _has_ended(task: Any, cluster: str) -> bool:
    if cluster == "local":
        return task.done()
    folder = task.paths.folder
    with suppress(OSError):
        os.utime(folder)  # so that NFS looks again
    return task.paths.result_pickle.exists()


def _fault(task: Any) -> MmattnError | None:
    """What went wrong with a task that has ended."""
    log = f"its log is {task.paths.stderr}"
    if not task.paths.result_pickle.exists():
        return MmattnError(f"task {task.job_id} ended without a word: cancelled, or lost with its node; {log}")
    error = task.exception()
    return MmattnError(f"task {task.job_id}: {_reason(error)}; {log}") if error else None


def _without(shards: list[int], k: int, count: int) -> list[int]:
    """All but every `count`-th from `k` on, those after it first."""
    own = set(shards[k::count])
    return [shard for shard in [*shards[k:], *shards[:k]] if shard not in own]


def _reason(error: BaseException) -> str:
    """The last line that says something; of a failed command, what it wrote."""
    text = getattr(error, "stderr", None) or str(error)
    lines = [line.strip() for line in (text if isinstance(text, str) else text.decode()).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@dataclass(frozen=True)
class _Task:
    """Travels to the task. SIGTERM is submitit's to handle there: it waits for the signal that says what comes next."""

    root: str
    workers: int

    def __call__(self, shards: list[int]) -> None:
        job = Job(Path(self.root))
        still = set(job.open_shards())
        if todo := [shard for shard in shards if shard in still]:
            LocalEngine(self.workers).run(job, todo, wait=False)

    def checkpoint(self, shards: list[int]) -> Any:
        """What submitit puts into the queue when the task is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, shards)
