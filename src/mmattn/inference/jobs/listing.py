"""Lists the files of a source, each with a stable id.

A source is a file, a folder, a pattern (`videos/**/*.mp4`), a list (`.txt`, one path a line) or a manifest.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from mmattn.data.manifest.columns import path_in
from mmattn.data.manifest.library import list_files
from mmattn.data.manifest.rows import MANIFEST_NAMES, read_manifest
from mmattn.data.manifest.textfiles import path_lines
from mmattn.data.manifest.walk import HIDDEN, nothing_in, why_path_left_out
from mmattn.errors import UsageError
from mmattn.files import absolutes, expanded, is_address, matching, split_pattern
from mmattn.inference.jobs.entry import Entry, entry_of
from mmattn.progress import Progress

_MANIFESTS = frozenset(Path(name).suffix for name in MANIFEST_NAMES)


@dataclass(frozen=True)
class Listing:
    """The entries of a source, and how many files were skipped for each reason."""

    entries: list[Entry]
    skipped: Counter[str]


def list_source(source: str, without: Path | None = None, digests: bool = False) -> Listing:
    """List every file of `source` once, in a fixed order, except below the folder `without`.

    The id of a file is its path below the folder or below the fixed part of the pattern, the line of the list, or the
    id in the manifest. `digests`: read all files, to detect changes by content instead of by modification time. Raises
    UsageError if there is no file, or if two files have the same id.
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
        entries = [entry_of(path.name, each) for each in absolutes(list_files(path))]
    if not entries:
        raise nothing_in(source, skipped)
    if len({entry.id for entry in entries}) < len(entries):
        twice, count = Counter(entry.id for entry in entries).most_common(1)[0]
        raise UsageError(f"{source}: names {twice!r} {count} times; list every file once")
    return Listing(list(_with_digests(entries)) if digests else entries, skipped)


def _with_digests(entries: list[Entry]) -> Iterator[Entry]:
    with Progress("reading files for their digests", len(entries)) as progress:
        for count, entry in enumerate(entries, 1):
            yield entry.with_digest()
            progress.at(count)


def reaches(source: str, folder: Path) -> bool:
    """Whether a source that is a folder or a pattern would find files in `folder`."""
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
    return [entry_of(name, path) for name, path in zip(names, absolutes(files), strict=True)]


def _of_pattern(pattern: str, without: Path | None, skipped: Counter[str]) -> list[Entry]:
    """By the same rules as the files of a folder (see walk), except that a pattern may name hidden files."""
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
    """The folder before the first wildcard of a pattern, and the files that match."""
    return split_pattern(pattern)[0], [file for file in matching(pattern) if not file.is_dir()]


def _of_list(path: Path) -> list[Entry]:
    """Paths relative to the list, one a line, in any encoding. A line with # is a comment unless it is a file."""
    names: list[tuple[int, str]] = []
    for number, line in enumerate(path_lines(path.read_bytes()), start=1):
        if not line.strip() or (line.startswith("#") and not os.path.lexists(path.parent / line)):
            continue
        try:
            names.append((number, path_in(path.parent, line)))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    entries: dict[str, tuple[int, Entry]] = {}
    paths = absolutes(path.parent / expanded(name) for _, name in names)
    for (number, name), each in zip(names, paths, strict=True):
        first, _ = entries.setdefault(each, (number, entry_of(name, each)))
        if first != number:
            raise UsageError(f"{path}, line {number}: {name!r} is the file of line {first}; list every file once")
    return [entry for _, entry in entries.values()]


def _of_manifest(path: Path) -> list[Entry]:
    rows = read_manifest(path)
    paths = absolutes(row.path for row in rows)
    return [
        replace(entry_of(row.id, each), offset=row.offset, member=row.size, start=row.start or None, end=row.end)
        for row, each in zip(rows, paths, strict=True)
    ]
