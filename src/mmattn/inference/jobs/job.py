"""A job's folder: what is to be done, what is done, and by which model. Every file in it is whole or absent.

    job.json             the recipe: model and settings that decide the answers; another one is refused
    settings.json        all settings, for the processes that do the work
    files/000000.jsonl   a shard: up to `shard_files` entries, as they were listed
    done/000000.jsonl    its answers, one line an entry, in that order. That it is there says the shard is done
    part/000000.jsonl    the answers so far of a shard under way; a line cut off by a crash does not count
    tries/000000.json    entries that ended the process which worked on them, and how often

Nothing in `files` and `done` is ever changed, but for failures that are tried again on demand.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError, UsageError
from mmattn.files import write_atomically
from mmattn.inference.jobs.listing import Entry
from mmattn.text import clean

Record = dict[str, Any]
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Job:
    root: Path

    def settings(self) -> dict[str, Any]:
        """Raises MmattnError where they are not there."""
        try:
            return json.loads((self.root / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MmattnError(f"{self.root / _SETTINGS}: cannot be read ({error})") from None

    def write_settings(self, settings: dict[str, Any]) -> None:
        write_atomically(self.root / _SETTINGS, json.dumps(settings, indent=1).encode())

    def shards(self) -> list[int]:
        """The numbers of all shards."""
        return _numbers(self.root / "files")

    def open_shards(self) -> list[int]:
        """Those that are not done."""
        done = set(self.done_shards())
        return [shard for shard in self.shards() if shard not in done]

    def done_shards(self) -> list[int]:
        return _numbers(self.root / "done")

    def begun_shards(self) -> list[int]:
        """Those under way, or left off."""
        return _numbers(self.root / "part")

    def add(self, entries: Iterable[Entry], shard_files: int) -> int:
        """Shards of those entries that no shard has yet; returns how many entries came in.

        Interrupted, it goes on when it is called again. Raises UsageError where an id stood for another file before.
        """
        known = self._known()
        new = []
        for entry in entries:
            if (before := known.get(entry.id)) is None:
                new.append(entry)
            elif before != entry.place:
                raise UsageError(
                    f"{self.root}: {clean(entry.id)} was {clean(before[0])} before, now it is "
                    f"{clean(entry.path)}; name another out="
                )
        new = iter(new)
        count, number = 0, len(self.shards())
        while chunk := list(islice(new, shard_files)):
            write_atomically(self._file("files", number), _lines(entry.to_dict() for entry in chunk))
            count, number = count + len(chunk), number + 1
        return count

    def _known(self) -> dict[str, tuple[Any, ...]]:
        """The place of each entry, by its id."""
        return {entry.id: entry.place for shard in self.shards() for entry in self.entries(shard)}

    def entries(self, shard: int) -> list[Entry]:
        return [Entry(**record) for record in _read(self._file("files", shard))]

    def count(self, shard: int) -> int:
        """How many entries it has."""
        return _count(self._file("files", shard))

    def done_count(self, shard: int) -> int:
        """How many of them are answered, in a shard under way too."""
        done = self._file("done", shard)
        return self.count(shard) if done.is_file() else _count(self._file("part", shard))

    def answers(self, shard: int) -> list[Record]:
        """Of a shard that is done. Raises MmattnError for a file that was changed by others."""
        path = self._file("done", shard)
        try:
            records = list(_read(path))
        except ValueError as error:
            raise MmattnError(f"{path}: damaged ({error}); remove it, and the shard is done again") from None
        if [record.get("id") for record in records] != [entry.id for entry in self.entries(shard)]:
            raise MmattnError(f"{path}: does not answer its shard; remove it, and the shard is done again")
        return records

    def records(self) -> Iterator[Record]:
        """All answers that are there, in order."""
        for shard in self.done_shards():
            yield from self.answers(shard)

    def reopen(self, shard: int) -> None:
        """Do the shard again, but for the answers that are ok."""
        kept = {record["id"]: record for record in self.answers(shard) if record["status"] == "ok"}
        entries = self.entries(shard)
        write_atomically(self._file("again", shard), _lines(kept.values()))
        write_atomically(self._file("files", shard), _lines(
            (entry if entry.id in kept else entry.as_it_is()).to_dict() for entry in entries
        ))  # fmt: skip
        self._file("tries", shard).unlink(missing_ok=True)
        self._file("part", shard).unlink(missing_ok=True)
        self._file("done", shard).unlink()

    def kept(self, shard: int) -> dict[str, Record]:
        """Answers of a reopened shard that stay."""
        path = self._file("again", shard)
        return {record["id"]: record for record in _read(path)} if path.is_file() else {}

    def tries(self, shard: int) -> dict[str, int]:
        """Which entries ended their process before, and how often."""
        path = self._file("tries", shard)
        return json.loads(path.read_bytes()) if path.is_file() else {}

    def note_try(self, shard: int, name: str) -> None:
        tries = self.tries(shard)
        write_atomically(self._file("tries", shard), json.dumps({**tries, name: tries.get(name, 0) + 1}).encode())

    def journal(self, shard: int) -> Journal:
        return Journal(self._file("part", shard), self._file("done", shard), self.entries(shard))

    def tidy(self) -> None:
        """Remove what only shards under way need, of those that are done."""
        done = set(self.done_shards())
        for kind in ("again", "tries"):
            for shard in done & set(_numbers(self.root / kind)):
                self._file(kind, shard).unlink(missing_ok=True)

    def _file(self, kind: str, shard: int) -> Path:
        suffix = ".json" if kind == "tries" else ".jsonl"
        return self.root / kind / f"{shard:06d}{suffix}"


class Journal:
    """The answers to one shard while they come in; `commit` makes them the shard's.

    One process at a time: another one waits, and finds the shard `committed` or goes on where this one ended.
    Raises MmattnError where the disk takes no more.
    """

    def __init__(self, part: Path, done: Path, entries: list[Entry]) -> None:
        self.done = done
        self._part = part
        part.parent.mkdir(parents=True, exist_ok=True)
        done.parent.mkdir(parents=True, exist_ok=True)
        self._file = part.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.committed = done.is_file()
        whole, self.count = _valid(part, [entry.id for entry in entries])
        self._file.truncate(whole)

    def add(self, record: Record) -> None:
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as error:
            raise MmattnError(f"{self._part}: cannot be written ({error.strerror})") from None
        self.count += 1

    def commit(self) -> None:
        if self.committed:
            self._part.unlink(missing_ok=True)
            return
        try:
            os.fsync(self._file.fileno())
            self._part.replace(self.done)
        except OSError as error:
            raise MmattnError(f"{self.done}: cannot be written ({error.strerror})") from None
        self.committed = True

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take is not in the journal
            self._file.close()


def _valid(part: Path, ids: list[str]) -> tuple[int, int]:
    """How many bytes of a journal, and how many lines, answer the entries in their order."""
    size = count = 0
    if part.is_file():
        with part.open("rb") as file:
            for line, name in zip(file, ids, strict=False):
                try:
                    if not line.endswith(b"\n") or json.loads(line)["id"] != name:
                        break
                except (ValueError, KeyError, TypeError):
                    break
                size, count = size + len(line), count + 1
    return size, count


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(
        int(path.stem) for path in folder.iterdir() if path.stem.isdigit() and path.suffix.startswith(".json")
    )


def _read(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _count(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode("ascii") + b"\n"


def _lines(records: Iterable[Record]) -> bytes:
    return b"".join(map(_line, records))
