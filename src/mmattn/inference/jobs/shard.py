"""Answering one shard: in order, each entry once, whatever any of them does to the model or its process.

Whoever works on a shard holds its lease. A process that is stopped for so long that its lease lapses ends its work on
the shard when it notices, and what it commits before counts only where no other process has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job, Record
from mmattn.inference.jobs.journal import Journal
from mmattn.inference.jobs.listing import Entry
from mmattn.process.lease import Lease
from mmattn.text import counted

Tell = Callable[[dict[str, Any]], None]
MAX_TRIES = 3


@dataclass(frozen=True)
class Answering:
    """`records` gives a record for each entry, in order. `ahead`: how many it may have taken beyond those answered."""

    records: Callable[[Iterable[Entry]], Iterator[Record]]
    ahead: int


def answer_shard(job: Job, shard: int, answering: Answering, tell: Tell, alone_until: int = 0) -> bool:
    """Answer what is left of a shard and commit it; False where another process works on it. `tell` hears of each
    answer.

    Entries before `alone_until` are worked on one by one, because one of them may have ended a process: `tell` hears
    of each before it is begun. An exception costs the entry that raises it, once it is alone.
    """
    lease = job.lease(shard)
    if not lease.take():
        return job.is_done(shard)
    try:
        with closing(job.journal(shard)) as journal:
            work = _Work(job, shard, answering, tell, journal, lease, alone_until)
            if not work.through():
                return False
            journal.commit()
        lease.release(done=True)
        return True
    finally:
        lease.release()


class _Work:
    """What is left of a shard, for the holder of its lease."""

    def __init__(
        self, job: Job, shard: int, answering: Answering, tell: Tell, journal: Journal, lease: Lease, alone_until: int
    ) -> None:
        self.entries, self.tries = job.entries(shard), job.tries(shard)
        self.answering, self.tell = answering, tell
        self.journal, self.lease = journal, lease
        self.alone_until = alone_until

    def through(self) -> bool:
        """Answer entry by entry; False once the lease is lost."""
        while not self.journal.committed and (at := self.journal.count) < len(self.entries):
            alone = at < self.alone_until
            run = self.entries[at : at + 1] if alone else self.entries[at:]
            if alone:
                self.tell({"alone": run[0].id})
            try:
                with closing(_answers(run, self.settled, self.answering)) as records:
                    for record in records:
                        if self.lease.lost():
                            return False
                        self.note(record)
            except MmattnError:
                raise  # of the job, not of an entry
            except Exception as error:
                if len(run) > 1:
                    self.alone_until = self.journal.count + self.answering.ahead
                else:
                    self.note(_raised(run[0], error))
        return True

    def note(self, record: Record) -> None:
        self.journal.add(record)
        self.tell({"done": self.journal.count, "failed": record["status"] != "ok"})

    def settled(self, entry: Entry) -> Record | None:
        """The answer to an entry that needs no model."""
        if self.tries[entry.id] >= MAX_TRIES:
            detail = f"ended the process that worked on it, {counted(self.tries[entry.id], 'time')}"
            return _failed(entry, "quarantined", detail)
        if entry.changed():
            return _failed(entry, "changed", "replaced since it was listed; the same command takes it as it is now")
        return None


def _answers(run: list[Entry], settled: Callable[[Entry], Record | None], answering: Answering) -> Generator[Record]:
    """`settled` is asked once an entry: its file may change between two looks, and answers would go to others."""
    decided: dict[str, Record | None] = {}

    def decision(entry: Entry) -> Record | None:
        if entry.id not in decided:
            decided[entry.id] = settled(entry)
        return decided[entry.id]

    results = answering.records(entry for entry in run if decision(entry) is None)
    for entry in run:
        record = decision(entry) or next(results)
        yield {"id": entry.id, **record, "path": entry.path}


def _raised(entry: Entry, error: Exception) -> Record:
    first = (str(error).splitlines() or [""])[0]
    return _failed(entry, "too_large" if _is_out_of_memory(error) else "crashed", f"{type(error).__name__}: {first}")


def _failed(entry: Entry, reason: str, detail: str) -> Record:
    return {"id": entry.id, "path": entry.path, "status": "failed", "reason": reason, "detail": detail}


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error).lower() or "OutOfMemory" in type(error).__name__
