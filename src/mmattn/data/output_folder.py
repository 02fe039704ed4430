"""An output folder that one command fills from clips: one recipe, one process at a time, marked when complete."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmattn import __version__
from mmattn.data.manifest.rows import Row, read_manifest
from mmattn.data.manifest.write import write_manifest
from mmattn.errors import UsageError
from mmattn.files import check_writable, write_atomically
from mmattn.process.lease import Lease

LEASE = ".lease"  # the process that fills the folder now

_WHOLE, _PART = 1 << 20, 1 << 16  # bytes: files up to this size are hashed whole, larger ones in parts


@contextmanager
def making(root: Path, name: str, recipe: dict[str, Any]) -> Iterator[None]:
    """Hold `root` while it is filled. `recipe` (plain data) determines its content and is stored in `root/name`.

    Raises UsageError if it cannot be written, another process is filling it now, or it was begun with another recipe.
    """
    check_writable(root, f"out={root}")
    root.mkdir(parents=True, exist_ok=True)
    with alone_in(root):
        begun = _read(root / name)
        if begun is None:
            write_atomically(root / name, _json({"recipe": recipe}))
        else:
            _compare(root, begun.get("recipe"), recipe)
        for part in root.glob(".*.part"):  # of a process that was killed
            part.unlink()
        yield


@contextmanager
def alone_in(root: Path, doing: str = "filling it") -> Iterator[None]:
    """Hold an existing folder. Raises UsageError if another process holds it now; `doing`: what for, in its message."""
    lease = Lease(root / LEASE)
    if not lease.take():
        raise UsageError(f"{root}: another process is {doing} now: {lease.holder()}")
    try:
        yield
    finally:
        lease.release(done=True)


def holds_others(root: Path) -> bool:
    """Whether the folder contains anything but a command's own lease."""
    return any(path.name != LEASE for path in root.iterdir())


def finished(root: Path, name: str, recipe: dict[str, Any], facts: dict[str, Any]) -> None:
    """Mark `root` as complete; `read_made` returns `facts`."""
    write_atomically(root / name, _json({"recipe": recipe, "made": {"mmattn": __version__, **facts}}))


def read_made(root: Path, name: str, command: str) -> dict[str, Any]:
    """The record of a complete folder: its `recipe`, and the facts in `made`. Raises UsageError for others."""
    record = _read(root / name)
    if record is None:
        raise UsageError(f"{root}: no {name}; make the folder with: mmattn {command} out={root}")
    if "made" not in record:
        raise UsageError(f"{root}: not finished; run mmattn {command} out={root} again, it continues where it stopped")
    return record


def is_finished(root: Path, name: str) -> bool:
    """Whether the folder is marked as complete."""
    return "made" in (_read(root / name) or {})


def rows_hash(rows: Sequence[Row]) -> str:
    """A hash of what is decoded: each clip's id, split, byte range and span, and its file's content (`content_stamp`).

    Labels, paths and modification times do not count: a copy of the data set has the same hash.
    """
    media = dict.fromkeys((row.path, row.offset, row.size) for row in rows)
    with ThreadPoolExecutor(8) as pool:
        stamps = dict(zip(media, pool.map(lambda each: content_stamp(*each), media), strict=True))
    digest = hashlib.sha256()
    for row in rows:
        stamp = stamps[row.path, row.offset, row.size]
        digest.update(json.dumps([row.id, row.split, row.start, row.end, row.offset, row.size, stamp]).encode() + b"\n")
    return digest.hexdigest()


def content_stamp(path: Path, offset: int | None = None, size: int | None = None) -> str | None:
    """A hash of a file's size and content: all of it up to 1 MiB, else 64 KiB each of its start, middle and end.

    None for a file that cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        start, length = offset or 0, found.st_size if size is None else size
        digest = hashlib.sha256(str(length).encode())
        whole = [(start, length)]
        parts = [(start + at, _PART) for at in (0, (length - _PART) // 2, length - _PART)]
        for at, count in whole if length <= _WHOLE else parts:
            digest.update(os.pread(descriptor, count, at))
        return digest.hexdigest()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def labels_hash(rows: Sequence[Row]) -> str:
    """A hash of the clips' labels."""
    labels = (
        [row.id, row.tags, row.captions, row.families, row.segments, *([row.tag_scores] if row.tag_scores else [])]
        for row in rows
    )
    return hashlib.sha256("\n".join(json.dumps(each, sort_keys=True) for each in labels).encode()).hexdigest()


def refresh_labels(root: Path, name: str, manifest: Path, rows: Sequence[Row], new: Callable[[Row, Row], Row]) -> None:
    """Copy the labels of `rows` into the manifest of a complete folder if they changed since it was made.

    `new`: from the manifest's row and the row of the same id in `rows`, the manifest's row with the new labels. Labels
    that were only changed in the manifest stay.
    """
    record = read_made(root, name, "")
    labels = labels_hash(rows)
    if record["made"].get("labels") == labels:
        return
    by_id = {row.id: row for row in rows}
    write_manifest([new(kept, by_id[kept.id]) for kept in read_manifest(manifest)], manifest)
    write_atomically(root / name, _json({**record, "made": {**record["made"], "labels": labels}}))
    print(f"{manifest}: labels updated, because those of the clips' source have changed", file=sys.stderr)


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read ({error}); remove the folder and run the command again") from None
    return record


def _compare(root: Path, begun: Any, recipe: dict[str, Any]) -> None:
    before = begun if isinstance(begun, dict) else {}
    for key in sorted(before.keys() | recipe.keys()):
        if before.get(key) != recipe.get(key):
            was, now = (_shown(values.get(key)) for values in (before, recipe))
            raise UsageError(f"{root}: was begun with another {key} ({was}, now {now}); set another out=")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
