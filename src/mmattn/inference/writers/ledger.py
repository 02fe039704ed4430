"""Writes a file for each record, beside its video or in a folder, and keeps files that others wrote.

The files that the job wrote are listed in a database on disk, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mmattn.errors import MmattnError
from mmattn.files import beside
from mmattn.inference.records.build import Record
from mmattn.inference.writers.file_names import places
from mmattn.text import clean

_TABLE = "CREATE TABLE IF NOT EXISTS file (path BLOB PRIMARY KEY, kind TEXT, size INT, mtime INT, mark TEXT, round INT)"
_BATCH = 1000  # files between commits; one that was written but not noted is recognised by its content


class Ledger:
    """Files of one kind, written in rounds. A file that was changed since then is no longer the job's.

    `folder` None: beside each video. `overwrite`: also replace files that this job did not write. `other`: the suffix
    of files of another kind that the job writes to the same place.
    """

    def __init__(
        self, database: sqlite3.Connection, folder: Path | None, suffix: str, overwrite: bool, other: str | None
    ) -> None:
        self._database, self._folder, self._suffix, self._overwrite = database, folder, suffix, overwrite
        self._root = None if folder is None else Path(os.path.realpath(folder))
        self._kind, self._other_kind = (
            f"{self._root or 'beside'} {each}".encode("utf-8", "surrogateescape") for each in (suffix, other)
        )
        database.execute(_TABLE)
        (last,) = database.execute("SELECT COALESCE(MAX(round), 0) FROM file").fetchone()
        self._round = last + 1
        self._noted = 0

    def write(self, record: Record, data: bytes) -> Literal["written", "kept"]:
        """Write `data` to the record's file; "kept" if a file of others is there. Raises MmattnError."""
        mark = hashlib.sha256(data).hexdigest()
        return self.make(record, mark, lambda part: part.write_bytes(data), data)

    def make(
        self, record: Record, mark: str, make: Callable[[Path], object], data: bytes | None = None
    ) -> Literal["written", "kept"]:
        """As `write`, but `make` writes to the path it is given. It is not called if the job's file has that `mark`."""
        place = next(path for path in places(record, self._folder, self._suffix) if not self._taken(path))
        try:
            self._check_inside(place)
            there = os.path.lexists(place)
            known = self._known(place) if there else None
            if known != mark and not (there and data is not None and _holds(place, data)):
                if there and (place.is_dir() or (known is None and not self._overwrite)):
                    return "kept"
                with beside(place) as part:
                    make(part)
        except OSError as error:
            raise MmattnError(f"{clean(str(place))}: cannot be written ({error.strerror})") from None
        self._note(place, mark)
        if data is None or self._noted % _BATCH == 0:
            self._database.commit()
        return "written"

    def remove_stale(self) -> None:
        """Remove the files of this kind that an earlier round wrote and this one did not."""
        stale = (self._kind, self._round)
        for (raw,) in self._database.execute("SELECT path FROM file WHERE kind = ? AND round < ?", stale):
            path = Path(os.fsdecode(raw))
            if self._known(path) is not None:
                path.unlink(missing_ok=True)
        self._database.execute("DELETE FROM file WHERE kind = ? AND round < ?", stale)

    def _taken(self, path: Path) -> bool:
        """Whether the path belongs to another record of this round, or to a file of the other kind."""
        values = (os.fsencode(path), self._round, self._other_kind)
        found = self._database.execute("SELECT 1 FROM file WHERE path = ? AND (round = ? OR kind = ?)", values)
        return found.fetchone() is not None

    def _known(self, path: Path) -> str | None:
        """The mark of a file that the job wrote and that was not changed since; else None."""
        values = (os.fsencode(path),)
        found = self._database.execute("SELECT size, mtime, mark FROM file WHERE path = ?", values).fetchone()
        return found[2] if found is not None and found[:2] == _stamp(path) else None

    def _note(self, path: Path, mark: str) -> None:
        row = (os.fsencode(path), self._kind, *(_stamp(path) or (None, None)), mark, self._round)
        self._database.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", row)
        self._noted += 1

    def _check_inside(self, place: Path) -> None:
        """Raise MmattnError if a link in the folder leads out of it."""
        if self._root is not None and not Path(os.path.realpath(place.parent)).is_relative_to(self._root):
            raise MmattnError(f"{clean(str(place))}: a link leads out of {self._folder}; remove it")


@contextmanager
def open_ledger(
    database: Path, folder: Path | None, suffix: str, overwrite: bool, other: str | None = None
) -> Iterator[Ledger]:
    """Open the ledger of one kind of file. Raises MmattnError if the database fails."""
    try:
        connection = sqlite3.connect(database)
        try:
            yield Ledger(connection, folder, suffix, overwrite, other)
        finally:
            connection.commit()
            connection.close()
    except sqlite3.Error as error:
        raise MmattnError(
            f"{database}: cannot be used ({error}); if you remove it, files that it lists count as written by others"
        ) from None


def _holds(path: Path, data: bytes) -> bool:
    stamp = _stamp(path)
    return stamp is not None and stamp[0] == len(data) and path.read_bytes() == data


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time; None if there is no regular file."""
    if path.is_symlink() or not path.is_file():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns
