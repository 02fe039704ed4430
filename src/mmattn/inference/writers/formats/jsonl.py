"""JSON Lines: the complete record of each file, ASCII, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mmattn.inference.writers.interface import FileFormat, Record


class JSONLines(FileFormat):
    suffix = ".jsonl"

    def write(self, records: Iterable[Record], part: Path) -> None:
        with part.open("w", encoding="ascii") as lines:
            for record in records:
                lines.write(json.dumps(record, allow_nan=False) + "\n")
