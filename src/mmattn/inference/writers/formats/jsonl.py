"""JSON Lines: the complete record of each file on a line, in ASCII."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mmattn.inference.records.build import Record
from mmattn.inference.writers.interface import FileFormat


class JSONLines(FileFormat):
    """The default format, and the one that other verbs read."""

    suffix = ".jsonl"

    def write(self, records: Iterable[Record], part: Path) -> None:
        with part.open("w", encoding="ascii") as lines:
            for record in records:
                lines.write(json.dumps(record, allow_nan=False) + "\n")
