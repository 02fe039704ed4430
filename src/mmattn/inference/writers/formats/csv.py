"""CSV for spreadsheets: one row for each file, with what fits into cells. No cell is a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmattn import text
from mmattn.inference.records.build import Record
from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.inference.writers.interface import FileFormat
from mmattn.text import one_line

MODALITIES = ("video", "audio")  # those of types, which needs torch
COLUMNS = ("id", "path", "status", "reason", "detail", "tags", "score", "captions", "used", "video", "audio", "issues")


class CSV(FileFormat):
    """`score`: of the best tag. `video`, `audio`: the mean shares of the tags."""

    suffix = ".csv"

    def write(self, records: Iterable[Record], part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for record in records:
                cells = _cells(record)
                rows.writerow([cell(cells.get(name)) for name in COLUMNS])


def _cells(record: Record) -> dict[str, Any]:
    modality = record.get("modality") or {}
    tags = record.get("tags") or []
    return {
        **{name: record.get(name) for name in ("id", "path", "status", "reason", "detail")},
        "tags": "; ".join(one_line(tag["tag"]) for tag in tags),
        "score": max((tag["score"] for tag in tags), default=None),
        "captions": "; ".join(one_line(caption["text"]) for caption in side_by_side(record)),
        "used": "; ".join(modality.get("used") or []),
        **(modality.get("shapley") or _shares(tags)),
        "issues": "; ".join(record.get("issues") or []),
    }


def _shares(tags: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean shares of annotators' tags, which have no mean split of their own."""
    found = {name: [tag[name] for tag in tags if tag.get(name) is not None] for name in MODALITIES}
    return {name: round(sum(each) / len(each), 4) for name, each in found.items() if each}


def cell(value: str | float | None) -> str | float | None:
    """Numbers unchanged; text made safe for a cell."""
    return text.cell(value) if isinstance(value, str) else value
