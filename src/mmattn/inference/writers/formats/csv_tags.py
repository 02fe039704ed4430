"""CSV for spreadsheets and SQL: one row for each segment of each tag, with its score."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmattn.inference.records.build import Record
from mmattn.inference.writers.formats.csv import cell
from mmattn.inference.writers.interface import FileFormat
from mmattn.text import one_line

COLUMNS = ("id", "path", "tag", "from", "modality", "score", "start", "end", "video", "audio", "synergy")


class TagRows(FileFormat):
    """A tag without times has one row with empty `start` and `end`; a file without tags has no row."""

    suffix = ".csv"

    def write(self, records: Iterable[Record], part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for record in records:
                rows.writerows([cell(row.get(name)) for name in COLUMNS] for row in _rows(record))


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    for tag in record.get("tags") or []:
        named = {**tag, "tag": one_line(tag["tag"]), "id": record.get("id"), "path": record["path"]}
        for start, end in tag.get("segments") or [(None, None)]:
            yield {**named, "start": start, "end": end}
