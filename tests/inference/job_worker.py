"""A working process for the tests of jobs: `python job_worker.py JOB DEVICE`. Names of files say what they do to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.job import Job, Record
from mmattn.inference.jobs.shard import EntryProcessor
from mmattn.inference.jobs.worker import serve

BATCH = 8


def records(entries: Iterable[Entry]) -> Iterator[Record]:
    """In batches, as a model does it: what one entry does to the process it does to the whole batch."""
    entries = iter(entries)
    while batch := list(islice(entries, BATCH)):
        if log := os.environ.get("MMATTN_TEST_LOG"):
            with open(log, "a") as file:
                file.write("".join(f"{entry.id}\n" for entry in batch))
        for entry in batch:
            if "poison" in entry.id:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "fault" in entry.id:
                raise ValueError("not for this model\nsecond line")
            if "large" in entry.id:
                raise MemoryError
            if "slow" in entry.id:
                time.sleep(0.02)
        for entry in batch:
            bad = {"status": "failed", "reason": "not_media"} if "bad" in entry.id else {"status": "ok"}
            yield {"path": entry.path, **bad, "text": Path(entry.path).read_text()}


PROCESSOR = EntryProcessor(records, BATCH)


@contextmanager
def answering():
    print("loading", flush=True)  # must not reach the driver
    if sys.argv[2] == "broken":
        raise UsageError("no weights")
    if sys.argv[2] == "dying":
        os._exit(9)
    yield PROCESSOR


if __name__ == "__main__":
    sys.exit(serve(Job(Path(sys.argv[1])), answering))
