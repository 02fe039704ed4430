"""Manifests: a table of clips as JSONL, Parquet or CSV, checked with line numbers, one `Row` a clip.

The schema is in data/README.md. Only `path` is required.
"""

from __future__ import annotations

import csv
import gc
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmattn.data.manifest.columns import Segment, check_names, families, seconds, segments, texts, whole_bytes
from mmattn.errors import UsageError
from mmattn.files import ByteRange, absolutes, beside

SPLITS = ("train", "val", "test")
MANIFEST_NAMES = ("manifest.jsonl", "manifest.parquet", "manifest.csv")
_BATCH = 8192  # Parquet rows at once


@dataclass(frozen=True, slots=True)
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
    segments: tuple[Segment, ...] = ()  # words or events with their times, where those are known
    offset: int | None = None  # bytes; with `size`: the media is a member inside the uncompressed tar at `path`
    size: int | None = None  # bytes

    @property
    def media(self) -> Path | ByteRange:
        """What a reader opens: the file at `path`, or the part of it that is the member."""
        if self.offset is None or self.size is None:
            return self.path
        return ByteRange(self.path, self.offset, self.size)


COLUMNS = tuple(column.name for column in fields(Row))


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest; relative paths are relative to it. Raises UsageError naming the line of a fault."""
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UsageError(f"{path}: a manifest ends in {', '.join(readers)}")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    folder = path.parent
    try:
        with _collector_paused():
            for line, record in readers[path.suffix](path):
                try:
                    row = _row(record, folder)
                    if row.id in seen:
                        raise ValueError(f"id {row.id!r} was used in line {seen[row.id]}; ids must differ")
                except ValueError as error:
                    raise UsageError(f"{path}, line {line}: {error}") from None
                seen[row.id] = line
                rows.append(row)
    except (OSError, ValueError, csv.Error) as error:  # Arrow's errors are among them
        raise UsageError(f"{path}: cannot be read ({(str(error).splitlines() or [''])[0]})") from None
    if not rows:
        raise UsageError(f"{path}: the manifest has no rows")
    return rows


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A million rows hold no cycles, and looking for them again and again costs a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    known: set[tuple[str, ...]] = set()  # sets of keys that are right: nearly always one
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
            names = tuple(record)
            if names not in known:
                _check(names, f"{path}, line {line}")
                known.add(names)
            yield line, record


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check(reader.fieldnames or (), str(path))
        if "path" not in (reader.fieldnames or ()):
            raise UsageError(f"{path}: no column 'path'; found {', '.join(reader.fieldnames or ()) or 'no header'}")
        for record in reader:
            if None in record:
                raise UsageError(
                    f"{path}, line {reader.line_num}: more cells than the header has; quote those with commas"
                )
            yield reader.line_num, {key: value for key, value in record.items() if value != ""}


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path}: Parquet manifests need pyarrow: pip install pyarrow") from None
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        _check(names, str(path))
        if "path" not in names:
            raise UsageError(f"{path}: no column 'path'; found {', '.join(names) or 'none'}")
        line = 0
        for batch in file.iter_batches(_BATCH, columns=[name for name in COLUMNS if name in names]):
            for record in batch.to_pylist():
                line += 1
                yield line, record


def _check(names: Sequence[str], where: str) -> None:
    try:
        check_names(names, COLUMNS)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _row(record: dict[str, Any], folder: Path) -> Row:
    """Raises ValueError saying what is wrong. None is an absent value."""
    take: Callable[[str], Any] = record.get
    path, split = take("path"), take("split")
    if not isinstance(path, str) or not path:
        raise ValueError(f"no 'path'; found {', '.join(sorted(map(str, record))) or 'nothing'}")
    if split is not None and split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    start, end, clip_id = take("start"), take("end"), take("id")
    start = 0.0 if start is None else seconds(start, "start")
    end = None if end is None else seconds(end, "end")
    if end is not None and end <= start:
        raise ValueError(f"end {end} s is not after start {start} s")
    offset, size = whole_bytes(take("offset"), "offset", 0), whole_bytes(take("size"), "size", 1)
    if (offset is None) != (size is None):
        missing, given = ("size", "offset") if size is None else ("offset", "size")
        raise ValueError(f"{given} without {missing}; a member of a tar needs both, a file neither")
    return Row(
        id=path if clip_id is None else str(clip_id),
        path=folder / path,
        start=start,
        end=end,
        tags=texts(take("tags"), "tags"),
        captions=texts(take("captions"), "captions"),
        split=split,
        families=families(take("families")),
        segments=segments(take("segments")),
        offset=offset,
        size=size,
    )


def write_manifest(rows: Iterable[Row], path: Path) -> int:
    """Write `rows` as the suffix of `path` says, whole or not at all; returns how many.

    Media below the manifest's folder are named relative to it, others by their absolute path.
    Raises UsageError for another suffix, and for what the format cannot hold: then JSONL does.
    """
    writers = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise UsageError(f"{path}: a manifest ends in {', '.join(writers)}")
    here = f"{path.parent.resolve()}/"
    rows, again = itertools.tee(rows)
    media = absolutes(row.path for row in again)
    records = (_record(row, name.removeprefix(here)) for row, name in zip(rows, media, strict=True))
    try:
        with beside(path) as part:
            return writers[path.suffix](records, part)
    except UnicodeEncodeError:
        raise UsageError(f"{path}: a file name in it is no UTF-8, which only JSONL can hold; write a .jsonl") from None


def _record(row: Row, path: str) -> dict[str, Any]:
    """What is said of a row, without the empty columns."""
    record: dict[str, Any] = {"id": row.id, "path": path}
    if row.start:
        record["start"] = row.start
    for name in ("end", "split", "offset", "size"):
        if (value := getattr(row, name)) is not None:
            record[name] = value
    for name in ("tags", "captions", "segments"):
        if value := getattr(row, name):
            record[name] = list(value)
    if row.families:
        record["families"] = row.families
    return record


def _write_jsonl(records: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            # ASCII: a file name may hold bytes that are no UTF-8, which JSON carries as escapes.
            file.write(json.dumps(record) + "\n")
            count += 1
    return count


def _write_csv(records: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for record in records:
            for name in ("tags", "captions"):
                cell = "; ".join(record.get(name, ()))
                if list(texts(cell, name)) != record.get(name, []):
                    raise UsageError(f"{record['id']}: its {name} do not fit a CSV cell ({cell!r}); write a .jsonl")
                record[name] = cell
            for name in ("families", "segments"):
                record[name] = json.dumps(record[name]) if name in record else ""
            writer.writerow(record)
            count += 1
    return count


def _write_parquet(records: Iterator[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path}: Parquet manifests need pyarrow: pip install pyarrow") from None
    text, seconds, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    segment = pyarrow.struct([("label", text), ("start", seconds), ("end", seconds)])
    kinds = {"start": seconds, "end": seconds, "offset": whole, "size": whole}
    kinds |= {"tags": pyarrow.list_(text), "captions": pyarrow.list_(text)}
    kinds |= {"families": pyarrow.map_(text, text), "segments": pyarrow.list_(segment)}
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(records, _BATCH)):
            for record in batch:  # Arrow's maps and structs, from a dict and from tuples
                record["families"] = list(record.get("families", {}).items())
                record["segments"] = [part._asdict() for part in record.get("segments", ())]
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
            count += len(batch)
    return count
