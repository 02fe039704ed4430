"""The records of one process for one shard, in a file of its own until `commit` makes them the shard's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mmattn.errors import MmattnError
from mmattn.files import place_if_absent
from mmattn.inference.records.build import Record


class Journal:
    """Starts with the records of earlier processes, so that none is made again.

    `own`: the file of this process; `done`: the file of the shard's records; `parts`: lists the files of all processes;
    `ids`: of the shard's entries, in order. If two processes work on a shard, the first to commit wins. Raises
    MmattnError if the disk is full.
    """

    def __init__(self, own: Path, done: Path, parts: Callable[[], Sequence[Path]], ids: Sequence[str]) -> None:
        self._own, self._done, self._parts = own, done, parts
        own.parent.mkdir(parents=True, exist_ok=True)
        done.parent.mkdir(parents=True, exist_ok=True)
        self.committed = done.is_file()
        self.count = 0
        before = b""
        for part in () if self.committed else parts():
            lines, count = _valid(part, ids)
            if count > self.count:
                before, self.count = lines, count
        try:
            self._file = own.open("xb")
        except OSError as error:
            raise self._full(error) from None
        self._write(before)

    def add(self, record: Record) -> None:
        """Append the record of the next entry."""
        self._write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")
        self.count += 1

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None

    def commit(self) -> None:
        """Make the records the shard's, unless it has some, and remove the files of all processes."""
        if not self.committed:
            try:
                os.fsync(self._file.fileno())
                place_if_absent(self._own, self._done)
            except FileNotFoundError:  # another process has committed and cleaned up
                if not self._done.is_file():
                    raise MmattnError(f"{self._own}: was removed; run the same command again") from None
            except OSError as error:
                raise MmattnError(f"{self._done}: cannot be written ({error.strerror})") from None
            self.committed = True
        for part in self._parts():
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # records that did not fit on the disk are not in the journal
            self._file.close()

    def _full(self, error: OSError) -> MmattnError:
        return MmattnError(f"{self._own}: cannot be written ({error.strerror})")


def _valid(part: Path, ids: Sequence[str]) -> tuple[bytes, int]:
    """The lines that are the records of the first entries in order, and how many they are."""
    lines: list[bytes] = []
    with suppress(FileNotFoundError), part.open("rb") as file:
        for line, name in zip(file, ids, strict=False):
            try:
                if not line.endswith(b"\n") or json.loads(line)["id"] != name:
                    break
            except (ValueError, KeyError, TypeError):
                break
            lines.append(line)
    return b"".join(lines), len(lines)


def count_lines(path: Path) -> int:
    """How many complete lines a file has; 0 if it does not exist."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return 0
