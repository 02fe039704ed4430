"""Which shards of a job are still to do, and how far they are; every engine uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.process.lease import Lease

MAX_FAILURES = 10  # deaths in a row without one record: the files are not to blame


class ShardQueue:
    """The shards that are left, for workers that may die.

    After a death the rest of the shard is done again, one entry at a time where one of them may be the cause. A shard
    held by a worker of another command is left to it while that lives.
    """

    def __init__(self, job: Job, shards: Sequence[int]) -> None:
        self.left = len(shards)  # not finished
        self._job = job
        self._waiting = deque(shards)
        self._held: dict[int, Lease] = {}  # by others
        self._alone_until: dict[int, int] = {}
        self._failures = 0

    @property
    def waiting(self) -> int:
        """How many shards no worker has."""
        return len(self._waiting)

    @property
    def only_held(self) -> bool:
        """Whether other commands hold all that is left."""
        return len(self._held) == self.left > 0

    def held(self, shard: int) -> None:
        """Note that a worker of another command holds the shard."""
        self._held[shard] = self._job.lease(shard)

    def check_held(self) -> None:
        """Check the shards that others held: some may be done, and some released."""
        for shard, lease in list(self._held.items()):
            if self._job.is_done(shard):
                del self._held[shard]
                self.finished()
            elif not lease.is_held():
                del self._held[shard]
                self._waiting.append(shard)

    def next(self) -> tuple[int, int] | None:
        """The next shard, and up to which of its entries to go one by one; None if no shard is waiting."""
        while self._waiting:
            shard = self._waiting.popleft()
            if not self._job.is_done(shard):
                return shard, self._alone_until.get(shard, 0)
            self.finished()  # by another command
        return None

    def progressed(self) -> None:
        """Note that a record was made."""
        self._failures = 0

    def finished(self) -> None:
        """Note that a shard is done."""
        self.left -= 1

    def worker_died(self, how: str, shard: int | None, alone: str | None, ahead: int) -> None:
        """Put the shard of a dead worker back.

        `how`: it died. `alone`: the entry it had, if it had one only; otherwise it had up to `ahead` entries. Raises
        MmattnError if workers die one after another and no record is made.
        """
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise no_progress(self._job, how)
        if shard is not None:
            if alone is not None:
                self._job.add_try(shard, alone)
            self._alone_until[shard] = self._job.done_count(shard) + ahead
            self._waiting.appendleft(shard)


def no_progress(job: Job, how: str) -> MmattnError:
    """The error for workers that die before they make a record."""
    return MmattnError(f"{job.root}: a worker process ended {how} before it processed any file")


class JobProgress:
    """How far some shards are, read from the job's folder. `total`: entries that were left at first."""

    def __init__(self, job: Job, shards: Sequence[int]) -> None:
        self._job = job
        self._left = {shard: job.count(shard) - job.done_count(shard) for shard in shards}
        self.total = sum(self._left.values())
        self.failed = 0  # in the shards that were done since

    def done(self) -> int:
        """How many of these entries are done. Only shards in progress are read again."""
        for shard in set(self._job.done_shards()) & self._left.keys():
            del self._left[shard]
            self.failed += sum(record["status"] != "ok" for record in self._job.records_of(shard))
        in_progress = self._left.keys() & set(self._job.begun_shards())
        self._left.update({shard: self._job.count(shard) - self._job.done_count(shard) for shard in in_progress})
        return self.total - sum(self._left.values())
