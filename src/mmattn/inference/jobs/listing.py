"""What a source holds to work on: each file with a stable id, and how it was when it was listed.

A source is a file, a folder, a pattern (`videos/**/*.mp4`), a list (`.txt`, one path a line) or a manifest.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from mmattn.data.manifest.columns import path_in
from mmattn.data.manifest.library import list_files
from mmattn.data.manifest.rows import MANIFEST_NAMES, read_manifest
from mmattn.data.manifest.textfiles import decoded
from mmattn.data.manifest.walk import HIDDEN, nothing_in, why_path_left_out
from mmattn.errors import MediaError, UsageError
from mmattn.files import ByteRange, absolutes, expanded, is_address, matching, split_pattern
from mmattn.inference.reading.piece import Piece
from mmattn.media.open.source import open_source
from mmattn.progress import Progress

_BLOCK = 1 << 20  # bytes read at once
_MANIFESTS = frozenset(Path(name).suffix for name in MANIFEST_NAMES)


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
    digest: str | None = None  # SHA-256 of its content, where that tells files apart

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
        return self.size is not None and not self.same_file(self.as_it_is())

    def same_file(self, other: Entry) -> bool:
        """Whether what this place held then and what it holds in `other` are one file: by size and digest, or by size
        and time of the last change."""
        if self.digest is not None and other.digest is not None:
            return (self.size, self.digest) == (other.size, other.digest)
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)

    def as_it_is(self) -> Entry:
        """The same file listed now. It is read for a digest only where its size and time do not tell enough."""
        now = _entry(self.id, self.path)
        same = replace(self, size=now.size, mtime_ns=now.mtime_ns)
        return same if self.digest is None or same == self else same.with_digest()

    def with_digest(self) -> Entry:
        """With the digest of what is there now; None where it cannot be read."""
        return replace(self, digest=_digest(self.media))

    def to_dict(self) -> dict[str, Any]:
        told = asdict(self)
        return {name: value for name, value in told.items() if value is not None or name in ("size", "mtime_ns")}


@dataclass(frozen=True)
class Listing:
    """The entries of a source, and how many files were passed over, by why."""

    entries: list[Entry]
    skipped: Counter[str]


def list_source(source: str, without: Path | None = None, digests: bool = False) -> Listing:
    """Every file of `source` once, in a fixed order; nothing below the folder `without`. `digests`: read them all, so
    that their content tells files apart, not the time of their last change.

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
        entries = _of_pattern(str(path), without, skipped)
    elif path.is_dir():
        entries = _of_files(path, list_files(path, without, skipped))
    else:
        entries = [_entry(path.name, each) for each in absolutes(list_files(path))]
    if not entries:
        raise nothing_in(source, skipped)
    if len({entry.id for entry in entries}) < len(entries):
        twice, count = Counter(entry.id for entry in entries).most_common(1)[0]
        raise UsageError(f"{source}: names {twice!r} {count} times; every file once")
    return Listing(list(_with_digests(entries)) if digests else entries, skipped)


def _with_digests(entries: list[Entry]) -> Iterator[Entry]:
    with Progress("reading files to tell them apart", len(entries)) as progress:
        for count, entry in enumerate(entries, 1):
            yield entry.with_digest()
            progress.at(count)


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


def _of_files(root: Path, files: list[Path]) -> list[Entry]:
    names = (os.path.relpath(file, root) for file in files)
    return [_entry(name, path) for name, path in zip(names, absolutes(files), strict=True)]


def _of_pattern(pattern: str, without: Path | None, skipped: Counter[str]) -> list[Entry]:
    """By the same rule as a folder's files (see walk); what is hidden is there only if the pattern says so."""
    root, files = _matches(pattern)
    if without is not None:
        files = [file for file in files if without.resolve() not in file.resolve().parents]
    wanted = []
    for file in files:
        why = why_path_left_out(PurePath(os.path.relpath(file, root)))
        if why is None or why == HIDDEN:
            wanted.append(file)
        else:
            skipped[why] += 1
    return _of_files(root, wanted)


def _matches(pattern: str) -> tuple[Path, list[Path]]:
    """The folder that a pattern names before its first wildcard, and the files that it matches. None hidden."""
    return split_pattern(pattern)[0], [file for file in matching(pattern) if not file.is_dir()]


def _of_list(path: Path) -> list[Entry]:
    """Paths relative to the list, one a line; names need not be UTF-8. A line with # that is no file says nothing."""
    names: list[str] = []
    for number, line in enumerate(decoded(path.read_bytes()).split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or (line.startswith("#") and not os.path.lexists(path.parent / line)):
            continue
        try:
            names.append(path_in(path.parent, line))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    paths = absolutes(path.parent / expanded(name) for name in names)
    return [_entry(name, each) for name, each in zip(names, paths, strict=True)]


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


def _digest(media: Path | ByteRange) -> str | None:
    digest = hashlib.sha256()
    try:
        with open_source(media) as content:
            for position in range(0, content.size, _BLOCK):
                digest.update(content.read_at(position, min(_BLOCK, content.size - position)))
    except (MediaError, OSError):
        return None
    return digest.hexdigest()
