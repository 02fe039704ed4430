"""Processes one shard: in order, each entry once, even if an entry ends the process or raises.

Only the holder of a shard's lease works on it. A process that stands still for so long that its lease expires stops
when it notices. If it commits before that, its records count only if no other process has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mmattn.errors import MmattnError, first_line
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.job import Job, Record
from mmattn.inference.jobs.journal import Journal
from mmattn.inference.records.build import failed_record
from mmattn.process.lease import Lease
from mmattn.text import counted

Send = Callable[[dict[str, Any]], None]
MAX_TRIES = 3


@dataclass(frozen=True)
class EntryProcessor:
    """`records` yields a record for each entry, in order. `ahead`: how many entries it may take before a record."""

    records: Callable[[Iterable[Entry]], Iterator[Record]]
    ahead: int


def process_shard(job: Job, shard: int, processor: EntryProcessor, send: Send, alone_until: int = 0) -> bool:
    """Process the rest of a shard and commit it; False if another process holds it.

    `send` gets a message for each record. Entries before `alone_until` are processed one by one, because one of them
    may have ended a process, and `send` gets a message before each. An exception fails the entry that raises it alone.
    """
    lease = job.lease(shard)
    if not lease.take():
        return job.is_done(shard)
    try:
        with closing(job.journal(shard)) as journal:
            if not _Work(job, shard, processor, send, journal, lease).run(alone_until):
                return False
            journal.commit()
        lease.release(done=True)
        return True
    finally:
        lease.release()


@dataclass
class _Work:
    """The rest of a shard, for the holder of its lease."""

    job: Job
    shard: int
    processor: EntryProcessor
    send: Send
    journal: Journal
    lease: Lease

    def __post_init__(self) -> None:
        self.entries, self.tries = self.job.entries(self.shard), self.job.tries(self.shard)

    def run(self, alone_until: int) -> bool:
        """Process all entries; False once the lease is lost."""
        while not self.journal.committed and (at := self.journal.count) < len(self.entries):
            is_alone = at < alone_until
            part = self.entries[at : at + 1] if is_alone else self.entries[at:]
            if is_alone:
                self.send({"alone": part[0].id})
            try:
                with closing(self._records(part)) as records:
                    for record in records:
                        if self.lease.lost():
                            return False
                        self._add(record)
            except MmattnError:
                raise  # concerns the job, not an entry
            except Exception as error:
                if len(part) > 1:
                    alone_until = self.journal.count + self.processor.ahead
                else:
                    self._add(_raised(part[0], error))
        return True

    def _add(self, record: Record) -> None:
        self.journal.add(record)
        self.send({"done": self.journal.count, "failed": record["status"] != "ok"})

    def _records(self, part: list[Entry]) -> Generator[Record]:
        """The records of `part`. Whether an entry needs the model is decided once, because its file may change."""
        decided: dict[str, Record | None] = {}

        def decision(entry: Entry) -> Record | None:
            if entry.id not in decided:
                decided[entry.id] = self._without_model(entry)
            return decided[entry.id]

        results = self.processor.records(entry for entry in part if decision(entry) is None)
        for entry in part:
            record = decision(entry) or next(results)
            yield {"id": entry.id, **record, "path": entry.path}

    def _without_model(self, entry: Entry) -> Record | None:
        """The record of an entry that is not processed; None for all others."""
        if self.tries[entry.id] >= MAX_TRIES:
            detail = f"ended the process that worked on it, {counted(self.tries[entry.id], 'time')}"
            return failed_record(entry.path, "quarantined", detail)
        if entry.changed():
            detail = "replaced since it was listed; the same command processes it as it is now"
            return failed_record(entry.path, "changed", detail)
        return None


def _raised(entry: Entry, error: Exception) -> Record:
    reason = "too_large" if _is_out_of_memory(error) else "crashed"
    text = first_line(error) if str(error).strip() else ""
    return {"id": entry.id, **failed_record(entry.path, reason, f"{type(error).__name__}: {text}")}


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error).lower() or "OutOfMemory" in type(error).__name__
