"""What a source holds to work on: each file with a stable id, and how it was when it was listed.

A source is a file, a folder, a pattern (`videos/**/*.mp4`), a list (`.txt`, one path a line) or a manifest.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmattn.data.manifest.library import list_files
from mmattn.data.manifest.rows import MANIFEST_NAMES, read_manifest
from mmattn.errors import UsageError
from mmattn.files import ByteRange, absolutes, expanded, is_address, matching, split_pattern
from mmattn.inference.predictor.piece import Piece

_MANIFESTS = frozenset(Path(name).suffix for name in MANIFEST_NAMES)
# What lies beside media and is none. Any other name is looked at: only its bytes say what it is.
_BESIDE_MEDIA = (
    "txt md json jsonl yaml yml toml xml nfo csv tsv parquet html htm pdf doc docx srt vtt ass sub idx log md5 sha1 "
    "sha256 sfv par2 torrent url lnk db ini py sh part tmp npy npz safetensors pt zip gz bz2 xz 7z rar"
)
NOT_MEDIA = frozenset(f".{name}" for name in _BESIDE_MEDIA.split())


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to work on. `size` and `mtime_ns` None: it could not be looked at, and will fail in its turn."""

    id: str
    path: str  # absolute
    size: int | None  # bytes
    mtime_ns: int | None
    offset: int | None = None  # the media is a member inside the tar at `path`,
    member: int | None = None  # of so many bytes
    start: float | None = None  # a part of it, s
    end: float | None = None

    @property
    def place(self) -> tuple[str, int | None, int | None, float | None, float | None]:
        """Which file, or part of one, it is."""
        return self.path, self.offset, self.member, self.start, self.end

    @property
    def media(self) -> Path | ByteRange:
        path = Path(self.path)
        return path if self.offset is None or self.member is None else ByteRange(path, self.offset, self.member)

    @property
    def piece(self) -> Piece:
        return Piece(self.media, self.start or 0.0, self.end)

    def changed(self) -> bool:
        """Whether the file is another one than was listed, or gone."""
        return self.size is not None and self.as_it_is() != self

    def as_it_is(self) -> Entry:
        """The same file listed now."""
        now = _entry(self.id, self.path)
        return replace(self, size=now.size, mtime_ns=now.mtime_ns)

    def to_dict(self) -> dict[str, Any]:
        told = asdict(self)
        return {name: value for name, value in told.items() if value is not None or name in ("size", "mtime_ns")}


@dataclass(frozen=True)
class Listing:
    """The entries of a source, and how many files were passed over, by why."""

    entries: list[Entry]
    skipped: Counter[str]


def list_source(source: str, without: Path | None = None) -> Listing:
    """Every file of `source` once, in a fixed order; nothing below the folder `without`.

    The id of a file is its path below the folder or below the fixed part of the pattern, the line of the list, or what
    the manifest says. Raises UsageError where there is nothing, or where two files have one id.
    """
    path = expanded(source)
    if is_address(path):
        raise UsageError(f"{source}: sources are local files and folders; download it first")
    skipped: Counter[str] = Counter()
    if path.suffix in _MANIFESTS and path.is_file():
        entries = _of_manifest(path)
    elif path.suffix == ".txt" and path.is_file():
        entries = _of_list(path)
    elif not os.path.lexists(path) and glob.has_magic(source):
        entries = _of_folder(*_matches(str(path)), without, skipped)
    elif path.is_dir():
        entries = _of_folder(path, list_files(path, without, skipped), None, skipped)
    else:
        entries = [_entry(path.name, each) for each in absolutes(list_files(path))]
    if not entries:
        left_out = ", ".join(f"{count} {why}" for why, count in skipped.items())
        raise UsageError(f"{source}: holds no files to work on" + (f" (left out: {left_out})" if left_out else ""))
    if len({entry.id for entry in entries}) < len(entries):
        twice, count = Counter(entry.id for entry in entries).most_common(1)[0]
        raise UsageError(f"{source}: names {twice!r} {count} times; every file once")
    return Listing(entries, skipped)


def reaches(source: str, folder: Path) -> bool:
    """Whether a source that is a folder or a pattern would find the files that are put into `folder`."""
    path = expanded(source)
    if os.path.lexists(path) or not glob.has_magic(source):
        return folder.resolve().is_relative_to(path.resolve())
    root, rest = split_pattern(str(path.absolute()))
    if not folder.absolute().is_relative_to(root):
        return False
    *levels, _ = rest.split("/")
    own = folder.absolute().relative_to(root).parts
    for level, name in zip(levels, own, strict=False):
        if level == "**":
            return True
        if not fnmatch.fnmatch(name, level):
            return False
    return len(own) <= len(levels)


def _of_folder(root: Path, files: list[Path], without: Path | None, skipped: Counter[str]) -> list[Entry]:
    wanted = [file for file in files if file.suffix.lower() not in NOT_MEDIA]
    if without is not None:
        wanted = [file for file in wanted if without.resolve() not in file.resolve().parents]
    if len(wanted) < len(files):
        skipped["not media by its name"] = len(files) - len(wanted)
    names = (os.path.relpath(file, root) for file in wanted)
    return [_entry(name, path) for name, path in zip(names, absolutes(wanted), strict=True)]


def _matches(pattern: str) -> tuple[Path, list[Path]]:
    """The folder that a pattern names before its first wildcard, and the files that it matches. None hidden."""
    return split_pattern(pattern)[0], [file for file in matching(pattern) if not file.is_dir()]


def _of_list(path: Path) -> list[Entry]:
    """Paths relative to the list, one a line; names need not be UTF-8, blank lines and those with # say nothing."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    lines = [line.removesuffix("\r") for line in lines]
    paths = absolutes(path.parent / expanded(line) for line in lines)
    return [_entry(line, each) for line, each in zip(lines, paths, strict=True)]


def _of_manifest(path: Path) -> list[Entry]:
    rows = read_manifest(path)
    paths = absolutes(row.path for row in rows)
    return [
        replace(_entry(row.id, each), offset=row.offset, member=row.size, start=row.start or None, end=row.end)
        for row, each in zip(rows, paths, strict=True)
    ]


def _entry(name: str, path: str) -> Entry:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return Entry(name, path, None, None)
    return Entry(name, path, found.st_size, found.st_mtime_ns)
