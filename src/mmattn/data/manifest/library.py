"""The media files of a source: one file, all files below a directory in a fixed order, or those of a manifest."""

from __future__ import annotations

import glob
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmattn.data.manifest.rows import MANIFEST_NAMES, read_manifest
from mmattn.data.manifest.walk import files_below, nothing_in
from mmattn.errors import UsageError
from mmattn.files import ByteRange, absolutes, is_address, split_pattern

_MANIFESTS = tuple(Path(name).suffix for name in MANIFEST_NAMES)
_ENDS = ", ".join(_MANIFESTS)
_OTHER_TABLES = frozenset((".tsv", ".json", ".xls", ".xlsx", ".ods", ".feather", ".arrow", ".yaml", ".yml", ".lst"))


@dataclass(frozen=True, slots=True)
class Item:
    """One media file, or the member of a tar that lies at `offset`."""

    path: str  # absolute
    offset: int | None = None  # bytes
    size: int | None = None

    @property
    def media(self) -> Path | ByteRange:
        """The file or byte range to open."""
        path = Path(self.path)
        return path if self.offset is None or self.size is None else ByteRange(path, self.offset, self.size)


def list_media(source: Path, without: Path | None = None, skipped: Counter[str] | None = None) -> list[Item]:
    """Every file of `source` once: those below a directory (but not below `without`), a manifest's, or the file itself.

    Raises UsageError if there is none.
    """
    if source.suffix in _MANIFESTS and source.is_file():
        rows = read_manifest(source)
        paths = absolutes(row.path for row in rows)
        return list(dict.fromkeys(Item(path, row.offset, row.size) for path, row in zip(paths, rows, strict=True)))
    return [Item(path) for path in absolutes(list_files(source, without, skipped))]


def root_of(source: Path) -> Path | None:
    """The folder that contains the files of `source`, with links resolved; None for a list of files.

    A reader uses it to follow no link below it, including links created after the listing.
    """
    if source.is_dir():
        return source.resolve()
    if not os.path.lexists(source) and glob.has_magic(str(source)):
        return Path(split_pattern(str(source.absolute()))[0]).resolve()
    return None


def list_files(source: Path, without: Path | None = None, skipped: Counter[str] | None = None) -> list[Path]:
    """`source`, or every file below it that may be media (see walk), sorted; `skipped` counts the others.

    Links to folders are not followed. Raises UsageError if there is none.
    """
    if is_address(source):
        raise UsageError(f"{source}: sources are local files and directories; download it first")
    if not os.path.lexists(source):
        raise UsageError(f"{source}: no such file or directory")
    if not source.is_dir():
        if source.suffix.lower() in _OTHER_TABLES and source.is_file():
            raise UsageError(f"{source}: cannot be read; a list of files ends in .txt, a manifest in {_ENDS}")
        return [source]
    skipped = Counter() if skipped is None else skipped
    files = files_below(source, skipped, without)
    if not files:
        raise nothing_in(source, skipped)
    return files
