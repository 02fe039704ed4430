"""The journal of a scan: one line for each file scanned so far."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from mmattn.data.manifest.library import Item
from mmattn.data.output_folder import LEASE
from mmattn.errors import UsageError
from mmattn.files import naming
from mmattn.media.survey.record import Depth
from mmattn.process.lease import Lease

Record = dict[str, Any]
_SYNC_S = 2.0  # of work that a crash of the machine may lose
_AGAIN = ("timeout", "crashed", "changed")  # a second scan may give another result


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file in its present state. `bytes` None: it does not exist."""

    item: Item
    bytes: int | None
    mtime_ns: int | None

    @classmethod
    def of(cls, item: Item, follow_symlinks: bool) -> ScannedFile:
        """The present state of `item`."""
        try:
            found = Path(item.path).stat(follow_symlinks=follow_symlinks)
        except FileNotFoundError:
            return cls(item, None, None)
        except (OSError, ValueError):  # the scan reports its error
            return cls(item, 0, 0)
        return cls(item, found.st_size if item.size is None else item.size, found.st_mtime_ns)

    def begin(self, depth: Depth) -> Record:
        """The first fields of its record."""
        record: Record = {"path": self.item.path}
        if self.item.offset is not None:
            record |= {"offset": self.item.offset, "size": self.item.size}
        return record | {"bytes": self.bytes, "mtime_ns": self.mtime_ns, "depth": depth}


@dataclass(frozen=True, slots=True)
class _Place:
    """The last line for a file, and the file's state then."""

    of_journal: bool
    start: int
    bytes: int | None
    mtime_ns: int | None
    final: bool


class ScanJournal:
    """The lines of a scan, by file. `old`: the report of an earlier scan, whose lines are reused.

    One process at a time: a second raises UsageError. A line cut off by a crash is removed.
    """

    def __init__(self, path: Path, old: Path, depth: Depth, resume: bool) -> None:
        self.path, self._depth = path, depth
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lease = Lease(path.parent / LEASE)
        if not self._lease.take():
            who = self._lease.holder()
            raise UsageError(f"{path.parent}: another data check is writing there ({who}); wait for it or set out=")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._old = os.open(old, os.O_RDONLY | os.O_CLOEXEC) if resume and old.is_file() else None
        self._places: dict[Item, _Place] = {}
        if self._old is not None:
            self._index(self._old, of_journal=False)
        if not resume:
            os.ftruncate(self._fd, 0)
        self._end = self._index(self._fd, of_journal=True)
        os.ftruncate(self._fd, self._end)
        self._synced = time.monotonic()

    def _index(self, fd: int, of_journal: bool) -> int:
        """Index every complete line; returns where they end."""
        start = 0
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._note(line, of_journal, start)
                start += len(line)
        return start

    def _note(self, line: bytes, of_journal: bool, start: int) -> None:
        try:
            record = json.loads(line)
            item = Item(record["path"], record.get("offset"), record.get("size"))
            final = record["depth"] == self._depth and record.get("reason") not in _AGAIN
            self._places[item] = _Place(of_journal, start, record["bytes"], record["mtime_ns"], final)
        except (ValueError, KeyError, TypeError):
            return  # not a valid line: the file is scanned again

    def holds(self, job: ScannedFile) -> bool:
        """Whether the journal has a valid record of the file; one of the old report is copied."""
        place = self._places.get(job.item)
        if place is None or not place.final or (place.bytes, place.mtime_ns) != (job.bytes, job.mtime_ns):
            return False
        if not place.of_journal:
            self.add(self.read(job.item), sync=False)
        return True

    def add(self, record: Record, sync: bool = True) -> None:
        """Append one line, which is on the disk within seconds."""
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        written = 0
        with naming(self.path):
            while written < len(line):
                written += os.pwrite(self._fd, line[written:], self._end + written)
        self._note(line, True, self._end)
        self._end += len(line)
        if sync and time.monotonic() - self._synced > _SYNC_S:
            os.fsync(self._fd)
            self._synced = time.monotonic()

    def done(self, jobs: Sequence[ScannedFile]) -> int:
        """How many of `jobs` have valid records in the file, also after an interrupt: the next scan reuses them."""
        self._end = self._index(self._fd, of_journal=True)
        return sum(self.holds(job) for job in jobs)

    def read(self, item: Item) -> Record:
        """The last record of a file."""
        place = self._places[item]
        fd = self._fd if place.of_journal or self._old is None else self._old
        line = b""
        while not line.endswith(b"\n"):
            piece = os.pread(fd, 1 << 14, place.start + len(line))
            if not piece:
                raise UsageError(
                    f"{self.path.parent}: its files were changed by another program; run the command again"
                )
            line += piece
            line = line[: line.find(b"\n") + 1] or line
        return json.loads(line)

    def remove(self) -> None:
        """Delete the journal after its report is written."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync and close the files, and release the folder."""
        os.fsync(self._fd)
        os.close(self._fd)
        if self._old is not None:
            os.close(self._old)
        self._lease.release(done=True)

    def __enter__(self) -> ScanJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
