"""Everything that a comparison's page shows, beside it: one JSON, and a CSV for each table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmattn.files import write_atomically
from mmattn.text import cell


def write_tables(out: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], facts: Mapping[str, Any]) -> list[Path]:
    """`out` report.html gets report.json, and report-TABLE.csv for each table with rows. Returns what was written."""
    written = [out.with_suffix(".json")]
    whole = _plain({**facts, **{name: list(rows) for name, rows in tables.items()}})
    write_atomically(written[0], json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False).encode())
    for name, rows in tables.items():
        if rows:
            written.append(out.with_name(f"{out.stem}-{name}.csv"))
            write_atomically(written[-1], to_csv(rows).encode("utf-8"))
    return written


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row, columns in the order of the first rows; text that a spreadsheet would run is quoted with '."""
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _plain(node: Any) -> Any:
    """JSON has no NaN; null says undefined."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, (list, tuple)):
        value = " ".join(str(item) for item in value if item is not None)
    if isinstance(value, str):
        return cell(value)
    return value
