"""The rows of a table in JSONL, CSV or Parquet: dicts by the names of our columns, each with its line number."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmattn.data.manifest.columns import plain, renamed
from mmattn.data.manifest.textfiles import opened_text
from mmattn.errors import UsageError, first_line

BATCH = 8192  # Parquet rows at once
csv.field_size_limit(1 << 26)  # segments and captions of a long film are more than the usual 128 KiB
_SEPARATORS = ",;\t|"
_ONE_A_LINE = "write one object a line, with nothing between them"

Records = Iterator[tuple[int, dict[str, Any]]]


def read_jsonl(path: Path, columns: Sequence[str]) -> Records:
    """The objects of a JSONL file."""
    known: dict[tuple[str, ...], dict[str, str]] = {}  # by the keys of a record: nearly always one entry
    with opened_text(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                wrong = f"not JSON ({error.msg} at column {error.colno})"
                raise UsageError(f"{path}, line {line}: {wrong}; {_ONE_A_LINE}") from None
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {line}: not JSON that can be read ({first_line(error)})") from None
            if not isinstance(record, dict):
                found = type(record).__name__
                raise UsageError(f"{path}, line {line}: expected an object with a path, found {found}; {_ONE_A_LINE}")
            names = tuple(record)
            if names not in known:
                known[names] = _columns(names, columns, f"{path}, line {line}")
            if "path" not in record and "path" not in known[names].values():
                raise UsageError(f"{path}, line {line}: no 'path'; found {', '.join(sorted(names)) or 'nothing'}")
            yield line, {column: record[name] for name, column in known[names].items()}


def read_csv(path: Path, columns: Sequence[str]) -> Records:
    """The rows of a CSV file, separated by commas, semicolons, tabs or bars, as its header shows."""
    with opened_text(path) as file:
        head = file.readline()
    with opened_text(path, newline="") as file:
        separator = separator_of(head, columns)
        spaced = _is_spaced(head, separator)
        reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=spaced)
        header: list[str] = []
        begin = 1
        try:
            if head.startswith("sep="):  # as Excel notes the separator
                next(reader)
            header = next(reader, [])
            place = {header.index(name): column for name, column in _header(header, columns, path).items()}
            begin = reader.line_num + 1
            for cells in reader:
                if any(cell.strip() for cell in cells):  # spreadsheets leave empty rows behind
                    if len(cells) > len(header):
                        raise UsageError(
                            f"{path}, line {begin}: more cells than the header has; quote those with the separator"
                        )
                    yield begin, {place[k]: cell for k, cell in enumerate(cells) if k in place and cell.strip()}
                begin = reader.line_num + 1
        except csv.Error as error:
            raise UsageError(f"{path}, line {begin}: not CSV ({error}); a quote inside quotes is doubled") from None


def separator_of(head: str, columns: Sequence[str]) -> str:
    """The separator of a header: the one with which it has most of `columns`."""
    if head.startswith("sep=") and len(head) > 4:
        return head[4]
    found = {separator: next(csv.reader(io.StringIO(head), delimiter=separator), []) for separator in _SEPARATORS}
    known = {separator: sum(plain(name) in columns for name in names) for separator, names in found.items()}
    return max(_SEPARATORS, key=lambda separator: (known[separator], len(found[separator])))


def _is_spaced(head: str, separator: str) -> bool:
    """Whether a space follows each separator of the header: then it belongs to no cell, and quotes come after it."""
    after = head.rstrip().split(separator)[1:]
    return bool(after) and all(name[:1] == " " and name.strip() for name in after)


def _header(header: Sequence[str], columns: Sequence[str], path: Path) -> dict[str, str]:
    found = _columns(header, columns, str(path))
    if "path" not in found.values():
        raise UsageError(f"{path}: no column 'path'; found {', '.join(header) or 'no header'}")
    return found


def read_parquet(path: Path, columns: Sequence[str]) -> Records:
    """The rows of a Parquet file."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path}: Parquet manifests need pyarrow: pip install pyarrow") from None
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        found = _columns(names, columns, str(path))
        if "path" not in found.values():
            raise UsageError(f"{path}: no column 'path'; found {', '.join(names) or 'none'}")
        line = 0
        for batch in file.iter_batches(BATCH, columns=list(found)):
            for record in batch.to_pylist():
                line += 1
                yield line, {column: record[name] for name, column in found.items()}


def _columns(names: Sequence[str], columns: Sequence[str], where: str) -> dict[str, str]:
    try:
        return renamed(names, columns)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
