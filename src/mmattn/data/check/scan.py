"""Looking at many files at once and keeping what was found: the work of `mmattn data check` that may be interrupted.

Every thread has a decoding process of its own, so a crash or a hang costs one file and holds up no other. What was
found is a line in a journal at once; a scan that begins again takes up what still holds, and looks at the rest.
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


class Here:
    """IsolatedReader's part of it in this process: starts at once, but a crash or a hang takes all with it."""

    def __init__(self, deadline_s: float, follow_symlinks: bool, beneath: Path | None) -> None:
        self._deadline_s = deadline_s
        self._links: dict[str, Any] = {"follow_symlinks": follow_symlinks, "beneath": beneath}

    def survey(self, src: Path | ByteRange, depth: Depth) -> Survey:
        with opened(src, **self._links) as one:
            return survey(one, depth, deadline_s=self._deadline_s)

    def interrupt(self) -> None:
        """The file under way has to end by itself."""

    def close(self) -> None:
        """There is nothing to end."""


Reader = IsolatedReader | Here


def look_at(reader: Reader, job: ScannedFile, depth: Depth) -> Record:
    """The record of one file, whatever is wrong with it."""
    record = job.begin(depth)
    if job.bytes is None:
        return record | {"status": "missing"}
    try:
        found = reader.survey(job.item.media, depth).to_dict()
    except MediaError as error:
        return record | {"status": "failed", "reason": error.reason, "detail": error.detail}
    told = {name: value for name, value in found.items() if value is not None and name != "streams"}
    return record | {"status": "failed" if "reason" in told else "ok"} | told


def look_at_all(jobs: Sequence[ScannedFile], depth: Depth, readers: Sequence[Reader]) -> Generator[Record, None, None]:
    """A record for each job, in the order in which they are done, by a thread for each reader. It closes them."""
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
                    results.put(look_at(reader, job, depth))
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
