"""Parquet: the complete record in typed, nested columns."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmattn.errors import UsageError
from mmattn.inference.writers.interface import FileFormat, Record
from mmattn.text import utf8

ROWS = 1024  # at once in memory, and in a row group


class Parquet(FileFormat):
    """What is not in a record is null. Times in seconds. Bytes of a name that are no UTF-8 stand as \\udcXX."""

    suffix = ".parquet"

    def check(self) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("format=parquet needs pyarrow: pip install 'mmattn[parquet]'")

    def write(self, records: Iterable[Record], part: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        columns = _schema()
        records = iter(records)
        with parquet.ParquetWriter(part, columns) as writer:
            while rows := [_row(record) for record in itertools.islice(records, ROWS)]:
                writer.write_table(pyarrow.Table.from_pylist(rows, columns))


def _schema() -> Any:
    import pyarrow

    text, number, many = pyarrow.string(), pyarrow.float64(), pyarrow.list_

    def struct(texts: str = "", numbers: str = "", **others: Any) -> Any:
        names = {**dict.fromkeys(texts.split(), text), **dict.fromkeys(numbers.split(), number), **others}
        return pyarrow.struct(list(names.items()))

    span = struct(numbers="start end")
    word = struct("word", "video audio synergy attention")
    modality = struct(used=many(text), shapley=struct(numbers="video audio"), attention=struct(numbers="audio prior"))
    return pyarrow.schema(
        {
            **dict.fromkeys(("id", "path", "status", "reason", "detail"), text),
            "tags": many(struct("tag modality", "score video audio synergy", segments=many(span))),
            "captions": many(struct("text", "start end score", words=many(word))),
            "modality": modality,
            "spans": many(span),
            "issues": many(text),
        }
    )


def _row(record: Record) -> Record:
    row = _storable(record)
    row["spans"] = _spans(row.get("spans"))
    for tag in row.get("tags") or []:
        tag["segments"] = _spans(tag.get("segments"))
    return row


def _spans(pairs: list[list[float]] | None) -> list[dict[str, float]] | None:
    return None if pairs is None else [{"start": start, "end": end} for start, end in pairs]


def _storable(value: Any) -> Any:
    """A copy of plain data in which every text is UTF-8."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    return [_storable(each) for each in value] if isinstance(value, list) else value
