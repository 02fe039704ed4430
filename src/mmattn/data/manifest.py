"""Manifests: a table of clips as JSONL, Parquet or CSV, checked with line numbers, one `Row` a clip.

The schema is in data/README.md. Only `path` is required.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.types import ByteRange

SPLITS = ("train", "val", "test")
MANIFEST_NAMES = ("manifest.jsonl", "manifest.parquet", "manifest.csv")


@dataclass(frozen=True)
class Row:
    """One clip of a data set: a span of a file and what is said of it."""

    id: str
    path: Path
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None = the end of the file
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    split: str | None = None
    families: dict[str, str] = field(default_factory=dict)  # tag -> which modality it needs, where that is known
    offset: int | None = None  # bytes; with `size`: the media is a member inside the uncompressed tar at `path`
    size: int | None = None  # bytes

    @property
    def media(self) -> Path | ByteRange:
        """What a reader opens: the file at `path`, or the part of it that is the member."""
        if self.offset is None or self.size is None:
            return self.path
        return ByteRange(self.path, self.offset, self.size)


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest; relative paths are relative to it. Raises UsageError naming the line of a fault."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UsageError(f"{path}: a manifest ends in {', '.join(readers)}")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        records = list(readers[path.suffix](path))
    except (OSError, ValueError, csv.Error) as error:  # Arrow's errors are among them
        raise UsageError(f"{path}: cannot be read ({(str(error).splitlines() or [''])[0]})") from None
    for line, record in records:
        row = _row(record, path, line)
        if row.id in seen:
            raise UsageError(f"{path}, line {line}: id {row.id!r} was used in line {seen[row.id]}; ids must differ")
        seen[row.id] = line
        rows.append(row)
    if not rows:
        raise UsageError(f"{path}: the manifest has no rows")
    return rows


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:  # spreadsheets begin with a byte order mark
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                raise UsageError(f"{path}, line {line}: not JSON ({error.msg} at column {error.colno})") from None
            if not isinstance(record, dict):
                raise UsageError(f"{path}, line {line}: expected an object with a path, found {type(record).__name__}")
            yield line, {key: value for key, value in record.items() if value is not None}


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if "path" not in (reader.fieldnames or ()):
            raise UsageError(f"{path}: no column 'path'; found {', '.join(reader.fieldnames or ()) or 'no header'}")
        for record in reader:
            if None in record:
                raise UsageError(
                    f"{path}, line {reader.line_num}: more cells than the header has; quote those with commas"
                )
            yield reader.line_num, {key: value for key, value in record.items() if value not in ("", None)}


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path}: Parquet manifests need pyarrow: pip install pyarrow") from None
    for line, record in enumerate(parquet.read_table(path).to_pylist(), start=1):
        yield line, {key: value for key, value in record.items() if value is not None}


def _row(record: dict[str, Any], manifest: Path, line: int) -> Row:
    where = f"{manifest}, line {line}"
    if not isinstance(record.get("path"), str) or not record["path"]:
        raise UsageError(f"{where}: no 'path'; found {', '.join(sorted(map(str, record))) or 'nothing'}")
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise UsageError(f"{where}: split {split!r} is none of {', '.join(SPLITS)}")
    start, end = _seconds(record.get("start", 0.0), "start", where), record.get("end")
    end = None if end is None else _seconds(end, "end", where)
    if end is not None and end <= start:
        raise UsageError(f"{where}: end {end} s is not after start {start} s")
    offset, size = _bytes(record.get("offset"), "offset", 0, where), _bytes(record.get("size"), "size", 1, where)
    if (offset is None) != (size is None):
        missing, given = ("size", "offset") if size is None else ("offset", "size")
        raise UsageError(f"{where}: {given} without {missing}; a member of a tar needs both, a file neither")
    return Row(
        id=str(record.get("id", record["path"])),
        path=manifest.parent / record["path"],
        start=start,
        end=end,
        tags=_texts(record.get("tags", ()), "tags", where),
        captions=_texts(record.get("captions", ()), "captions", where),
        split=split,
        families=_families(record.get("families"), where),
        offset=offset,
        size=size,
    )


def _seconds(value: Any, column: str, where: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {column} {value!r} is not a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{where}: {column} {value!r} is not a time from 0 s on")
    return seconds


def _bytes(value: Any, column: str, least: int, where: str) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
        whole = not isinstance(value, bool) and number == float(value)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole or number < least:
        raise UsageError(f"{where}: {column} {value!r} is not a whole number of bytes from {least} on")
    return number


def _texts(value: Any, column: str, where: str) -> tuple[str, ...]:
    """A list of strings, or one string of parts separated by semicolons (as in CSV)."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where}: {column} must be a list of strings or 'a; b', found {value!r}")
    return tuple(value)


def _families(value: Any, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):  # CSV holds it as JSON
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise UsageError(f"{where}: families must be a JSON object of tag: family, found {value!r}") from None
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):  # as Parquet's maps read back
        value = dict(value)
    if not isinstance(value, dict):
        raise UsageError(f"{where}: families must be an object of tag: family, found {value!r}")
    return {str(tag): str(family) for tag, family in value.items() if family is not None}
