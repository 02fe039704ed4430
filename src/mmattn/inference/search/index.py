"""The index of a library: sqlite's FTS5 over its passages, stored beside the file and rebuilt when it changes."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mmattn.errors import MmattnError, UsageError
from mmattn.files import beside
from mmattn.inference.search.library import passages, read_library
from mmattn.text import clean, utf8

SUFFIX = ".index"
_ID = 0x6D6D6174  # "mmat", the application id of our databases
_VERSION = 1
_TABLES = f"""
PRAGMA application_id = {_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE library (path TEXT, size INT, mtime INT);
CREATE TABLE file (id INTEGER PRIMARY KEY, name TEXT, path TEXT);
CREATE TABLE passage (id INTEGER PRIMARY KEY, file INT, kind TEXT, start REAL, "end" REAL, text TEXT);
CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize="porter unicode61 remove_diacritics 2");
"""
_UNSPACED = re.compile("([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")


def spaced(text: str) -> str:
    """`text` with spaces around each character of scripts that do not separate words."""
    return _UNSPACED.sub(r" \1 ", text)


@contextmanager
def open_index(library: Path, place: Path | None = None) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """Open the current index of `library`; yields the database and its path.

    The index is at `place` (None: beside the library), or in a temporary folder if it cannot be written there. Raises
    UsageError if `place` is another file, MmattnError if sqlite fails.
    """
    place = place or library.with_name(library.name + SUFFIX)
    try:
        if os.path.lexists(place) and not _is_ours(place):
            raise UsageError(
                f"{clean(str(place))}: is not an index of mmattn search; name another file with index=FILE"
            )
        with tempfile.TemporaryDirectory() as folder:
            if not _is_current(place, library):
                try:
                    with beside(place) as part:
                        _build(library, part)
                except (OSError, sqlite3.OperationalError):  # a read-only folder or disk
                    place = Path(folder) / "index"
                    _build(library, place)
            with closing(_opened(place)) as database:
                yield database, place
    except sqlite3.Error as error:
        raise MmattnError(f"{clean(str(place))}: {error}; remove it, and the next search rebuilds it") from None


def _opened(place: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"{place.absolute().as_uri()}?mode=ro", uri=True)
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _is_ours(place: Path) -> bool:
    """Whether a file is an index, by its header alone, so that a damaged index is rebuilt."""
    if not place.is_file():
        return False
    with place.open("rb") as file:
        head = file.read(72)
    return head[:16] == b"SQLite format 3\0" and int.from_bytes(head[68:72], "big") == _ID


def _is_current(place: Path, library: Path) -> bool:
    if not place.is_file():
        return False
    try:
        with closing(_opened(place)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            return version == _VERSION and database.execute("SELECT * FROM library").fetchall() == [_stamp(library)]
    except sqlite3.Error:
        return False


def _stamp(library: Path) -> tuple[str, int, int]:
    found = library.stat()
    return utf8(str(library.resolve())), found.st_size, found.st_mtime_ns


def _build(library: Path, part: Path) -> None:
    """Write the index to `part`. Raises UsageError if `library` is none."""
    stamp = _stamp(library)  # taken before reading, so that a change during it is noticed
    with closing(sqlite3.connect(part)) as database:
        database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        for number, result in enumerate(read_library(library)):
            names = (number, utf8(result.id or result.path), utf8(result.path))
            database.execute("INSERT INTO file VALUES (?, ?, ?)", names)
            for each in passages(result):
                row = (number, each.kind, each.start, each.end, utf8(each.text))
                place = database.execute("INSERT INTO passage VALUES (NULL, ?, ?, ?, ?, ?)", row).lastrowid
                database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (place, spaced(utf8(each.text))))
        database.execute("INSERT INTO library VALUES (?, ?, ?)", stamp)
        database.commit()
