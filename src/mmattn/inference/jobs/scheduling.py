"""Which shards of a job are still to do, how carefully, and how far they are: what every engine keeps account of."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.process.lease import Lease

FRUITLESS = 10  # deaths in a row without one answer: it is not the files


class Orders:
    """Shards for processes that may die. What is left of a dead one's shard is done again, one entry at a time where
    the culprit must be. A shard that a process of another command holds is left to it, for as long as it lives.
    """

    def __init__(self, job: Job, shards: Sequence[int]) -> None:
        self.left = len(shards)  # not finished
        self._job = job
        self._waiting = deque(shards)
        self._held: dict[int, Lease] = {}  # by others
        self._alone_until: dict[int, int] = {}
        self._fruitless = 0

    @property
    def waiting(self) -> int:
        """How many shards nobody works on."""
        return len(self._waiting)

    @property
    def only_held(self) -> bool:
        """Whether all that is left is in the hands of other commands."""
        return len(self._held) == self.left > 0

    def held(self, shard: int) -> None:
        """A process of another command works on it."""
        self._held[shard] = self._job.lease(shard)

    def look_again(self) -> None:
        """Shards that others held: they may be done by now, or nobody may hold them any more."""
        for shard, lease in list(self._held.items()):
            if self._job.is_done(shard):
                del self._held[shard]
                self.finished()
            elif not lease.is_held():
                del self._held[shard]
                self._waiting.append(shard)

    def next(self) -> tuple[int, int] | None:
        """A shard, and before which of its entries to go one by one."""
        while self._waiting:
            shard = self._waiting.popleft()
            if not self._job.is_done(shard):
                return shard, self._alone_until.get(shard, 0)
            self.finished()  # by another command
        return None

    def answered(self) -> None:
        self._fruitless = 0

    def finished(self) -> None:
        self.left -= 1

    def died(self, how: str, shard: int | None, alone: str | None, ahead: int) -> None:
        """A process did, as `how` tells, with `shard` in hand, up to `ahead` of its entries or `alone` under way.

        Raises MmattnError when one after another dies and nothing is answered.
        """
        self._fruitless += 1
        if self._fruitless >= FRUITLESS:
            raise hopeless(self._job, how)
        if shard is not None:
            if alone is not None:
                self._job.note_try(shard, alone)
            self._alone_until[shard] = self._job.done_count(shard) + ahead
            self._waiting.appendleft(shard)


def hopeless(job: Job, how: str) -> MmattnError:
    return MmattnError(f"{job.root}: a working process ended {how} before it answered anything")


class Tally:
    """How far some shards are, seen from outside: `total` entries were to answer when it was made."""

    def __init__(self, job: Job, shards: Sequence[int]) -> None:
        self._job = job
        self._left = {shard: job.count(shard) - job.done_count(shard) for shard in shards}
        self.total = sum(self._left.values())
        self.failed = 0  # in the shards that were done since

    def answered(self) -> int:
        """How many of them are. What is done or not begun is not looked into again."""
        for shard in set(self._job.done_shards()) & self._left.keys():
            del self._left[shard]
            self.failed += sum(record["status"] != "ok" for record in self._job.answers(shard))
        under_way = self._left.keys() & set(self._job.begun_shards())
        self._left.update({shard: self._job.count(shard) - self._job.done_count(shard) for shard in under_way})
        return self.total - sum(self._left.values())
