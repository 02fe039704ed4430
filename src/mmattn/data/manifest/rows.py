"""Read manifests: tables of clips as JSONL, Parquet or CSV, one `Row` a clip; errors have line numbers.

The schema is in docs/manifest.md. Only `path` is required.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmattn.data.manifest.columns import (
    SPLITS,
    LabelledSegment,
    byte_range,
    families,
    path_in,
    scores_of,
    seconds,
    segments,
    split_name,
    texts,
)
from mmattn.data.manifest.tables import read_csv, read_jsonl, read_parquet
from mmattn.errors import UsageError, first_line
from mmattn.files import ByteRange

__all__ = ["COLUMNS", "MANIFEST_NAMES", "SPLITS", "Row", "read_manifest"]
MANIFEST_NAMES = ("manifest.jsonl", "manifest.parquet", "manifest.csv")


@dataclass(frozen=True, slots=True)
class Row:
    """One clip of a data set: a span of a file and its labels."""

    id: str
    path: Path
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None = the end of the file
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    split: str | None = None
    families: dict[str, str] = field(default_factory=dict)  # tag -> the modality that it needs, where known
    segments: tuple[LabelledSegment, ...] = ()  # words or events with their times, where known
    offset: int | None = None  # bytes; with `size`: the media is a member inside the uncompressed tar at `path`
    size: int | None = None  # bytes
    tag_scores: dict[str, float] = field(default_factory=dict)  # scores of tags in [0, 1]; others have 1

    @property
    def media(self) -> Path | ByteRange:
        """The file at `path`, or the byte range of the member."""
        if self.offset is None or self.size is None:
            return self.path
        return ByteRange(self.path, self.offset, self.size)


COLUMNS = tuple(column.name for column in fields(Row))


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest; relative paths are relative to it. Raises UsageError naming the line of a fault."""
    readers = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
    if path.suffix not in readers:
        raise UsageError(f"{path}: a manifest ends in {', '.join(readers)}")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    folder, whole, cells = path.parent, path.parent.absolute(), path.suffix == ".csv"
    try:
        with _collector_paused():
            for line, record in readers[path.suffix](path, COLUMNS):
                try:
                    row = _row(record, folder, cells)
                    if row.id in seen:
                        raise ValueError(f"id {row.id!r} was used in line {seen[row.id]}; ids must differ")
                    file = row.id if record.get("id") is not None else _plain(row.id, whole)
                    if file in seen:
                        raise ValueError(f"{row.id!r} is the file of line {seen[file]}; give each row an id")
                except ValueError as error:
                    raise UsageError(f"{path}, line {line}: {error}") from None
                seen[row.id] = seen[file] = line
                rows.append(row)
    except (OSError, ValueError) as error:  # Arrow's errors are among them
        raise UsageError(f"{path}: cannot be read ({first_line(error)})") from None
    if not rows:
        raise UsageError(f"{path}: the manifest has no rows")
    return rows


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector: rows have no cycles, and searching for them takes a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _plain(name: str, folder: Path) -> str:
    """The path of a file in `folder` without `./`, `//` and the folder itself."""
    if not name.startswith(("/", "./")) and "//" not in name and "/./" not in name:
        return name
    path = Path(name)
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _row(record: dict[str, Any], folder: Path, cells: bool) -> Row:
    """The row of a record. Raises ValueError for wrong values. None is an absent value."""
    take: Callable[[str], Any] = record.get
    path = take("path")
    if not isinstance(path, str) or not path.strip():
        raise ValueError(f"no 'path'; found {', '.join(sorted(map(str, record))) or 'nothing'}")
    path = path_in(folder, path)
    start, end, clip_id = take("start"), take("end"), take("id")
    if clip_id is not None and not str(clip_id).strip():
        raise ValueError(f"id {clip_id!r} is empty; leave it out")
    start = 0.0 if start is None else seconds(start, "start")
    end = None if end is None else seconds(end, "end")
    if end is not None and end <= start:
        raise ValueError(f"end {end} s is not after start {start} s")
    offset, size = byte_range(take("offset"), take("size"))
    tags = texts(take("tags"), "tags", cells)
    return Row(
        id=path if clip_id is None else str(clip_id),
        path=folder / path,
        start=start,
        end=end,
        tags=tags,
        captions=texts(take("captions"), "captions", cells),
        split=split_name(take("split")),
        families=families(take("families")),
        segments=segments(take("segments")),
        offset=offset,
        size=size,
        tag_scores=scores_of(take("tag_scores"), tags),
    )
