"""Answering one shard: in order, each entry once, whatever any of them does to the model or its process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job, Record
from mmattn.inference.jobs.listing import Entry

Tell = Callable[[dict[str, Any]], None]
MAX_TRIES = 3


@dataclass(frozen=True)
class Answering:
    """`records` gives a record for each entry, in order. `ahead`: how many it may have taken beyond those answered."""

    records: Callable[[Iterable[Entry]], Iterator[Record]]
    ahead: int


def answer_shard(job: Job, shard: int, answering: Answering, tell: Tell, alone_until: int = 0) -> None:
    """Answer what is left of a shard and commit it. `tell` hears of each answer.

    Entries before `alone_until` are worked on one by one, because one of them may have ended a process: `tell` hears
    of each before it is begun. An exception costs the entry that raises it, once it is alone.
    """
    entries, kept, tries = job.entries(shard), job.kept(shard), job.tries(shard)

    def settled(entry: Entry) -> Record | None:
        """The answer to an entry that needs no model."""
        if entry.id in kept:
            return kept[entry.id]
        if tries.get(entry.id, 0) >= MAX_TRIES:
            return _failed(entry, "quarantined", f"ended the process that worked on it, {tries[entry.id]} times")
        if entry.changed():
            return _failed(entry, "changed", "not the file that was listed; retry_failed=true takes it as it is now")
        return None

    with closing(job.journal(shard)) as journal:
        while not journal.committed and journal.count < len(entries):
            at = journal.count
            run = entries[at : at + 1] if at < alone_until else entries[at:]
            if at < alone_until:
                tell({"alone": run[0].id})
            try:
                for record in _answers(run, settled, answering):
                    journal.add(record)
                    tell({"done": journal.count, "failed": record["status"] != "ok"})
            except MmattnError:
                raise  # of the job, not of an entry
            except Exception as error:
                if len(run) > 1:
                    alone_until = journal.count + answering.ahead
                    continue
                reason = "too_large" if _is_out_of_memory(error) else "crashed"
                journal.add(_failed(run[0], reason, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"))
                tell({"done": journal.count, "failed": True})
        journal.commit()


def _answers(run: list[Entry], settled: Callable[[Entry], Record | None], answering: Answering) -> Iterator[Record]:
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


def _failed(entry: Entry, reason: str, detail: str) -> Record:
    return {"id": entry.id, "path": entry.path, "status": "failed", "reason": reason, "detail": detail}


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error).lower() or "OutOfMemory" in type(error).__name__
