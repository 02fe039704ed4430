"""A job's folder: its entries, its records, and its model. Every file in it is complete or absent.

    job.json               the recipe: model and settings that the records depend on; another recipe is refused
    settings.json          all settings, for the worker processes
    files/000000.jsonl     a shard: up to `shard_files` entries, as they were listed
    done/000000.jsonl      its records, one line for each entry, in that order; if it exists, the shard is done
    lease/000000/          which process holds the shard; expires when that process ends
    part/000000.X.jsonl    the records of one process, X, so far; a line cut off by a crash does not count
    tries/000000.X.json    an entry that ended the process working on it, a file for each time

Files in `files` and `done` never change: a file that was replaced, or is tried again, is an entry of a new shard, whose
record replaces the one before. So a process that was thought dead cannot do harm when it continues.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mmattn.errors import MmattnError, UsageError
from mmattn.files import write_atomically, write_if_absent
from mmattn.inference.jobs.entry import Entry
from mmattn.inference.jobs.journal import Journal, count_lines
from mmattn.inference.records.build import Record
from mmattn.process.lease import Lease
from mmattn.text import clean

_SETTINGS = "settings.json"
_KINDS = ("files", "done", "part", "tries", "lease")
_REMOVE = "remove the file and run the same command again"


@dataclass(frozen=True)
class Job:
    """The folder `root` of a job."""

    root: Path

    def settings(self) -> dict[str, Any]:
        """All settings of the command. Raises MmattnError if they cannot be read."""
        try:
            return json.loads((self.root / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MmattnError(f"{self.root / _SETTINGS}: cannot be read ({error})") from None

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write the settings for the worker processes."""
        write_atomically(self.root / _SETTINGS, json.dumps(settings, indent=1).encode())

    def shards(self) -> list[int]:
        """The numbers of all shards."""
        return sorted(_numbers(self.root / "files"))

    def open_shards(self) -> list[int]:
        """The shards that are not done."""
        done = set(self.done_shards())
        return [shard for shard in self.shards() if shard not in done]

    def done_shards(self) -> list[int]:
        """The shards that are done."""
        return sorted(_numbers(self.root / "done"))

    def is_done(self, shard: int) -> bool:
        """Whether all records of the shard are committed."""
        return self._file("done", shard).is_file()

    def begun_shards(self) -> list[int]:
        """The shards that were begun and are not done."""
        return sorted(_numbers(self.root / "part"))

    def update(self, listed: Iterable[Entry], shard_files: int, retry_failed: bool = False) -> Update:
        """Append shards for files that are new or changed, and with `retry_failed` for those that failed.

        If it is interrupted, calling it again completes it. Raises UsageError if an id named another file before.
        """
        known = self._latest()
        failed = self._failed(known) if retry_failed else frozenset()
        todo: list[Entry] = []
        changed, removed = 0, set()
        for entry, is_listed in self._now(listed, known):
            before = known[entry.id].entry if entry.id in known else None
            if before is not None and is_listed and before.place != entry.place:
                raise UsageError(
                    f"{self.root}: {clean(entry.id)} was {clean(before.path)} before, now it is "
                    f"{clean(entry.path)}; set another out="
                )
            if not is_listed and entry.size is None:
                removed.add(entry.id)
            elif before is None or not before.same_file(entry):
                changed += before is not None
                todo.append(entry)
            elif entry.id in failed:
                todo.append(entry)
        self._append(todo, shard_files)
        return Update(len(todo), changed, frozenset(removed))

    def _now(self, listed: Iterable[Entry], known: dict[str, _Known]) -> Iterator[tuple[Entry, bool]]:
        """Each entry as it is now, and whether it is listed; those that only earlier commands listed come last."""
        seen = set()
        for entry in listed:
            seen.add(entry.id)
            yield entry, True
        for name, each in known.items():
            if name not in seen:
                yield each.entry.as_it_is(), False

    def _append(self, entries: Iterable[Entry], shard_files: int) -> None:
        new, number = iter(entries), max(self.shards(), default=-1) + 1
        while chunk := list(islice(new, shard_files)):
            write_atomically(self._file("files", number), b"".join(_line(entry.to_dict()) for entry in chunk))
            number += 1

    def _latest(self) -> dict[str, _Known]:
        """Each entry as it was last listed, by id."""
        return {entry.id: _Known(entry, shard) for shard in self.shards() for entry in self.entries(shard)}

    def _failed(self, known: dict[str, _Known]) -> frozenset[str]:
        """The ids of entries whose latest record is a failure."""
        return frozenset(
            record["id"]
            for shard in self.done_shards()
            for record in self.records_of(shard)
            if record["status"] != "ok" and known[record["id"]].shard == shard
        )

    def entries(self, shard: int) -> list[Entry]:
        """The entries of a shard, in order."""
        return [Entry(**record) for record in _read(self._file("files", shard))]

    def count(self, shard: int) -> int:
        """How many entries a shard has."""
        return count_lines(self._file("files", shard))

    def done_count(self, shard: int) -> int:
        """How many of its entries have a record, also in a shard in progress."""
        if self.is_done(shard):
            return self.count(shard)
        return max(map(count_lines, self._files("part", shard)), default=0)

    def records_of(self, shard: int) -> list[Record]:
        """The records of a shard that is done. Raises MmattnError if the file was changed by others."""
        path = self._file("done", shard)
        try:
            records = list(_read(path))
        except ValueError as error:
            raise MmattnError(f"{path}: damaged ({error}); {_REMOVE}") from None
        if [record.get("id") for record in records] != [entry.id for entry in self.entries(shard)]:
            raise MmattnError(f"{path}: does not hold the records of its shard; {_REMOVE}")
        return records

    def records(self, without: frozenset[str] = frozenset()) -> Iterator[Record]:
        """The latest record of each entry, in order, except those of the ids `without`."""
        latest = {name: known.shard for name, known in self._latest().items()}
        for shard in self.done_shards():
            for record in self.records_of(shard):
                if latest[record["id"]] == shard and record["id"] not in without:
                    yield record

    def lease(self, shard: int) -> Lease:
        """The lease of a shard, for the process that works on it."""
        return Lease(self.root / "lease" / f"{shard:06d}")

    def journal(self, shard: int) -> Journal:
        """A new journal of a shard, for a holder of its lease."""
        own = self.root / "part" / f"{shard:06d}.{secrets.token_hex(6)}.jsonl"
        ids = [entry.id for entry in self.entries(shard)]
        return Journal(own, self._file("done", shard), lambda: self._files("part", shard), ids)

    def tries(self, shard: int) -> Counter[str]:
        """How often each entry has ended the process working on it."""
        return Counter(str(json.loads(path.read_bytes())["id"]) for path in self._files("tries", shard))

    def add_try(self, shard: int, name: str) -> None:
        """Note that the entry of this id has ended the process working on it."""
        own = self.root / "tries" / f"{shard:06d}.{secrets.token_hex(6)}.json"
        write_if_absent(own, _line({"id": name}))

    def tidy(self) -> None:
        """Remove the working files of shards that are done, and unfinished files of processes that were killed."""
        done = set(self.done_shards())
        for kind in ("part", "tries"):
            for path in _files(self.root / kind):
                if _number(path) in done:
                    path.unlink(missing_ok=True)
        for path in _files(self.root / "lease"):
            if _number(path) in done:
                shutil.rmtree(path, ignore_errors=True)
        for kind in _KINDS:
            for path in (self.root / kind).glob(".*.part"):
                path.unlink(missing_ok=True)

    def _file(self, kind: str, shard: int) -> Path:
        return self.root / kind / f"{shard:06d}.jsonl"

    def _files(self, kind: str, shard: int) -> list[Path]:
        """The files of single processes for a shard."""
        return sorted((self.root / kind).glob(f"{shard:06d}.*"))


@dataclass(frozen=True)
class Update:
    """How a job changed. `todo`: entries in new shards; `changed`: those of files that were replaced.

    `removed`: ids of files that no longer exist and that the source does not name.
    """

    todo: int
    changed: int
    removed: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Known:
    entry: Entry
    shard: int


def _numbers(folder: Path) -> set[int]:
    return {_number(path) for path in _files(folder)}


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _files(folder: Path) -> list[Path]:
    """The files of shards in a folder."""
    with suppress(FileNotFoundError):
        return [path for path in folder.iterdir() if path.name.partition(".")[0].isdigit()]
    return []


def _read(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
