"""A job's folder: what is to be done, what is done, and by which model. Every file in it is whole or absent.

    job.json               the recipe: model and settings that decide the answers; another one is refused
    settings.json          all settings, for the processes that do the work
    files/000000.jsonl     a shard: up to `shard_files` entries, as they were listed
    done/000000.jsonl      its answers, one line an entry, in that order. That it is there says the shard is done
    lease/000000/          which process works on the shard; lapsed when that process is gone
    part/000000.X.jsonl    the answers so far of one process, X; a line cut off by a crash does not count
    tries/000000.X.json    an entry that ended the process which worked on it, a file for each time

Nothing in `files` and `done` is ever changed: a file that was replaced, or is tried again, is an entry of a new shard,
whose answer counts instead of the one before. So a process that was taken for dead and goes on cannot do harm.
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
from mmattn.inference.jobs.journal import Journal, count_lines
from mmattn.inference.jobs.listing import Entry
from mmattn.process.lease import Lease
from mmattn.text import clean

Record = dict[str, Any]
_SETTINGS = "settings.json"
_KINDS = ("files", "done", "part", "tries", "lease")


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
        return sorted(_numbers(self.root / "files"))

    def open_shards(self) -> list[int]:
        """Those that are not done."""
        done = set(self.done_shards())
        return [shard for shard in self.shards() if shard not in done]

    def done_shards(self) -> list[int]:
        return sorted(_numbers(self.root / "done"))

    def is_done(self, shard: int) -> bool:
        return self._file("done", shard).is_file()

    def begun_shards(self) -> list[int]:
        """Those under way, or left off."""
        return sorted(_numbers(self.root / "part"))

    def update(self, listed: Iterable[Entry], shard_files: int, retry_failed: bool = False) -> Update:
        """New shards for what has no answer: files that are new, that are not as they were, and, to `retry_failed`,
        that failed.

        Interrupted, it goes on when it is called again. Raises UsageError where an id stood for another file before.
        """
        known = self._latest()
        failed = self._failed(known) if retry_failed else frozenset()
        todo: list[Entry] = []
        changed, gone = 0, set()
        for entry, is_listed in self._now(listed, known):
            before = known[entry.id].entry if entry.id in known else None
            if before is not None and is_listed and before.place != entry.place:
                raise UsageError(
                    f"{self.root}: {clean(entry.id)} was {clean(before.path)} before, now it is "
                    f"{clean(entry.path)}; name another out="
                )
            if not is_listed and entry.size is None:
                gone.add(entry.id)
            elif before is None or not before.same_file(entry):
                changed += before is not None
                todo.append(entry)
            elif entry.id in failed:
                todo.append(entry)
        self._append(todo, shard_files)
        return Update(len(todo), changed, frozenset(gone))

    def _now(self, listed: Iterable[Entry], known: dict[str, _Known]) -> Iterator[tuple[Entry, bool]]:
        """Each entry as it is now: those listed, then those that only earlier commands listed."""
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
        """By id, each entry as it was listed last."""
        return {entry.id: _Known(entry, shard) for shard in self.shards() for entry in self.entries(shard)}

    def _failed(self, known: dict[str, _Known]) -> frozenset[str]:
        """The entries whose latest answer is none."""
        return frozenset(
            record["id"]
            for shard in self.done_shards()
            for record in self.answers(shard)
            if record["status"] != "ok" and known[record["id"]].shard == shard
        )

    def entries(self, shard: int) -> list[Entry]:
        return [Entry(**record) for record in _read(self._file("files", shard))]

    def count(self, shard: int) -> int:
        """How many entries it has."""
        return count_lines(self._file("files", shard))

    def done_count(self, shard: int) -> int:
        """How many of them are answered, in a shard under way too."""
        if self.is_done(shard):
            return self.count(shard)
        return max(map(count_lines, self._files("part", shard)), default=0)

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

    def records(self, without: frozenset[str] = frozenset()) -> Iterator[Record]:
        """The latest answer to each entry but those of the ids `without`, in order."""
        latest = {name: known.shard for name, known in self._latest().items()}
        for shard in self.done_shards():
            for record in self.answers(shard):
                if latest[record["id"]] == shard and record["id"] not in without:
                    yield record

    def lease(self, shard: int) -> Lease:
        """Held by who works on the shard."""
        return Lease(self.root / "lease" / f"{shard:06d}")

    def journal(self, shard: int) -> Journal:
        """For the answers of one holder of the shard's lease."""
        own = self.root / "part" / f"{shard:06d}.{secrets.token_hex(6)}.jsonl"
        ids = [entry.id for entry in self.entries(shard)]
        return Journal(own, self._file("done", shard), lambda: self._files("part", shard), ids)

    def tries(self, shard: int) -> Counter[str]:
        """Which entries ended their process before, and how often."""
        return Counter(str(json.loads(path.read_bytes())["id"]) for path in self._files("tries", shard))

    def note_try(self, shard: int, name: str) -> None:
        own = self.root / "tries" / f"{shard:06d}.{secrets.token_hex(6)}.json"
        write_if_absent(own, _line({"id": name}))

    def tidy(self) -> None:
        """Remove what only work under way needs, of shards that are done, and what processes that were killed while
        they wrote left behind.
        """
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
        """What single processes wrote of a shard."""
        return sorted((self.root / kind).glob(f"{shard:06d}.*"))


@dataclass(frozen=True)
class Update:
    """`todo`: entries in new shards, of these `changed` of files that were replaced since they were listed. `gone`:
    ids of files that are no longer there and that the source does not name."""

    todo: int
    changed: int
    gone: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Known:
    entry: Entry
    shard: int


def _numbers(folder: Path) -> set[int]:
    return {_number(path) for path in _files(folder)}


def _number(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _files(folder: Path) -> list[Path]:
    """Those that belong to a shard."""
    with suppress(FileNotFoundError):
        return [path for path in folder.iterdir() if path.name.partition(".")[0].isdigit()]
    return []


def _read(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _line(record: Record) -> bytes:
    return json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
