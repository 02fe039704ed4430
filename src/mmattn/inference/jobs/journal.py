"""The answers of one process to one shard, in a file of its own; `commit` makes them the shard's unless it has some."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError
from mmattn.files import place_if_absent


class Journal:
    """`own`: where this process writes; `done`: where the shard's answers are put; `parts`: lists what all processes
    wrote of the shard; `ids`: of its entries, in order.

    It begins with what any process before has answered, so nothing is answered again. Two that work on one shard at
    once each write their own file, and the first to commit wins. Raises MmattnError where the disk takes no more.
    """

    def __init__(self, own: Path, done: Path, parts: Callable[[], Sequence[Path]], ids: Sequence[str]) -> None:
        self._own, self._done, self._parts = own, done, parts
        own.parent.mkdir(parents=True, exist_ok=True)
        done.parent.mkdir(parents=True, exist_ok=True)
        self.committed = done.is_file()
        self.count = 0
        before = b""
        for part in () if self.committed else parts():
            answered, count = _valid(part, ids)
            if count > self.count:
                before, self.count = answered, count
        try:
            self._file = own.open("xb")
        except OSError as error:
            raise self._full(error) from None
        self._write(before)

    def add(self, record: dict[str, Any]) -> None:
        self._write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")
        self.count += 1

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None

    def commit(self) -> None:
        """Put the answers in place, if the shard has none, and remove what any process wrote on the way."""
        if not self.committed:
            try:
                os.fsync(self._file.fileno())
                place_if_absent(self._own, self._done)
            except FileNotFoundError:  # another holder has committed and cleared
                if not self._done.is_file():
                    raise MmattnError(f"{self._own}: was removed; give the same command again") from None
            except OSError as error:
                raise MmattnError(f"{self._done}: cannot be written ({error.strerror})") from None
            self.committed = True
        for part in self._parts():
            part.unlink(missing_ok=True)

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take is not in the journal
            self._file.close()

    def _full(self, error: OSError) -> MmattnError:
        return MmattnError(f"{self._own}: cannot be written ({error.strerror})")


def _valid(part: Path, ids: Sequence[str]) -> tuple[bytes, int]:
    """The lines of a journal, and how many, that answer the entries in their order."""
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
    """How many whole lines it has; 0 where it is not there."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return 0
