"""A folder that one command fills from clips: keyed by its recipe, filled by one process, whole when it says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmattn import __version__
from mmattn.data.manifest.rows import Row
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.lease import Lease

LEASE = ".lease"  # who fills the folder now


@contextmanager
def making(root: Path, name: str, recipe: dict[str, Any]) -> Iterator[None]:
    """Hold `root` while it is filled. `recipe` (plain data) is what decides its content; `root/name` keeps it.

    Raises UsageError when another process fills it now, or when it was begun with another recipe.
    """
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
    """Hold a folder that is there. Raises UsageError when another process holds it now; `doing` says what for."""
    lease = Lease(root / LEASE)
    if not lease.take():
        raise UsageError(f"{root}: another process is {doing} now: {lease.holder()}")
    try:
        yield
    finally:
        lease.release(done=True)


def holds_others(root: Path) -> bool:
    """Whether anything but what a command keeps for itself is in a folder."""
    return any(path.name != LEASE for path in root.iterdir())


def finished(root: Path, name: str, recipe: dict[str, Any], facts: dict[str, Any]) -> None:
    """Mark `root` as whole; `facts` are found again by `read_made`."""
    write_atomically(root / name, _json({"recipe": recipe, "made": {"mmattn": __version__, **facts}}))


def read_made(root: Path, name: str, command: str) -> dict[str, Any]:
    """What is known of a whole folder: its `recipe` and the facts in `made`. Raises UsageError for any other."""
    record = _read(root / name)
    if record is None:
        raise UsageError(f"{root}: no {name}; make the folder with: mmattn {command} out={root}")
    if "made" not in record:
        raise UsageError(f"{root}: not finished; give its mmattn {command} again, it goes on where it stopped")
    return record


def is_finished(root: Path, name: str) -> bool:
    return "made" in (_read(root / name) or {})


def rows_hash(rows: Sequence[Row]) -> str:
    """Of all that is said of the clips, and of the size and time of their files."""
    digest = hashlib.sha256()
    for row in rows:
        try:
            status = row.path.stat()
            stamp: Any = [status.st_size, status.st_mtime_ns]
        except OSError:
            stamp = None
        digest.update(json.dumps([asdict(row) | {"path": str(row.path)}, stamp], sort_keys=True).encode())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise UsageError(f"{file}: cannot be read ({error}); remove the folder and make it again") from None
    return record


def _compare(root: Path, begun: Any, recipe: dict[str, Any]) -> None:
    before = begun if isinstance(begun, dict) else {}
    for key in sorted(before.keys() | recipe.keys()):
        if before.get(key) != recipe.get(key):
            was, now = (_shown(values.get(key)) for values in (before, recipe))
            raise UsageError(f"{root}: was begun with another {key} ({was}, now {now}); name another out=")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
