"""Write rows as a manifest in JSONL, Parquet or CSV, which rows.py reads."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmattn.data.manifest.columns import texts
from mmattn.data.manifest.rows import COLUMNS, Row
from mmattn.data.manifest.tables import BATCH
from mmattn.errors import UsageError
from mmattn.files import absolutes, beside


def write_manifest(rows: Iterable[Row], path: Path) -> int:
    """Write `rows` in the format of the suffix of `path`, atomically; returns how many.

    Media below the manifest's folder are named relative to it, others by their absolute path.
    Raises UsageError for another suffix, and for values that the format cannot hold (JSONL can).
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
        raise UsageError(f"{path}: a file name is not UTF-8, which only JSONL can hold; write a .jsonl") from None


def _record(row: Row, path: str) -> dict[str, Any]:
    """The record of a row, without empty columns."""
    record: dict[str, Any] = {"id": row.id, "path": path}
    if row.start:
        record["start"] = row.start
    for name in ("end", "split", "offset", "size"):
        if (value := getattr(row, name)) is not None:
            record[name] = value
    for name in ("tags", "captions", "segments"):
        if value := getattr(row, name):
            record[name] = list(value)
    for name in ("families", "tag_scores"):
        if value := getattr(row, name):
            record[name] = value
    return record


def _write_jsonl(records: Iterable[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            # ASCII: a file name may have bytes that are not UTF-8, which JSON holds as escapes.
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
                record[name] = _cell(record.get(name, []), name)
            for name in ("families", "segments", "tag_scores"):
                record[name] = json.dumps(record[name]) if name in record else ""
            writer.writerow(record)
            count += 1
    return count


def _cell(items: list[str], name: str) -> str:
    """The cell `a; b`, or JSON where that would be read as something else."""
    plain = "; ".join(items)
    try:
        same = list(texts(plain, name, cell=True)) == items
    except ValueError:
        same = False
    return plain if same or not items else json.dumps(items, ensure_ascii=False)


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
    kinds |= {"tag_scores": pyarrow.map_(text, seconds)}
    schema = pyarrow.schema([(name, kinds.get(name, text)) for name in COLUMNS])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(records, BATCH)):
            for record in batch:  # Arrow's maps and structs, from a dict and from tuples
                for name in ("families", "tag_scores"):
                    record[name] = list(record.get(name, {}).items())
                record["segments"] = [part._asdict() for part in record.get("segments", ())]
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
            count += len(batch)
    return count
