"""Scan many files in parallel for `mmattn data check`.

Every thread has its own decoding process, so a crash or hang costs one file and delays no other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mmattn.data.check.journal import Record, ScannedFile
from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.open.source import opened
from mmattn.media.survey.passes import survey
from mmattn.media.survey.record import Depth, Survey


class LocalReader:
    """Surveys files in this process: it starts at once, but a crash or hang ends the whole scan."""

    def __init__(self, deadline_s: float, follow_symlinks: bool, beneath: Path | None) -> None:
        self._deadline_s = deadline_s
        self._links: dict[str, Any] = {"follow_symlinks": follow_symlinks, "beneath": beneath}

    def survey(self, src: Path | ByteRange, depth: Depth) -> Survey:
        """See the function survey. Raises MediaError."""
        with opened(src, **self._links) as one:
            return survey(one, depth, deadline_s=self._deadline_s)

    def interrupt(self) -> None:
        """Without effect: the present file is read to its end."""

    def close(self) -> None:
        """Without effect."""


Reader = IsolatedReader | LocalReader


def scan(reader: Reader, job: ScannedFile, depth: Depth) -> Record:
    """The record of one file; errors are part of it."""
    record = job.begin(depth)
    if job.bytes is None:
        return record | {"status": "missing"}
    try:
        found = reader.survey(job.item.media, depth).to_dict()
    except MediaError as error:
        return record | {"status": "failed", "reason": error.reason, "detail": error.detail}
    values = {name: value for name, value in found.items() if value is not None and name != "streams"}
    return record | {"status": "failed" if "reason" in values else "ok"} | values


def scan_all(jobs: Sequence[ScannedFile], depth: Depth, readers: Sequence[Reader]) -> Generator[Record, None, None]:
    """Yield a record for each job as it is done, with one thread for each reader; the readers are closed."""
    waiting, results, stop = iter(jobs), queue.SimpleQueue(), threading.Event()
    turn = threading.Lock()

    def work(reader: Reader) -> None:
        try:
            with closing(reader):
                while not stop.is_set():
                    with turn:
                        job = next(waiting, None)
                    if job is None:
                        break
                    results.put(scan(reader, job, depth))
        except BaseException as error:
            results.put(error)

    threads = [threading.Thread(target=work, args=(reader,), daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        for _ in jobs:
            found = results.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        for thread, reader in zip(threads, readers, strict=True):
            while thread.is_alive():
                reader.interrupt()
                thread.join(0.1)
