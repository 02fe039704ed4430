"""Atomic writes (a temporary file beside the target, synced, renamed), and names of files and folders."""

from __future__ import annotations

import glob
import itertools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError

MODEL_FILE = "model.safetensors"  # of a run


@dataclass(frozen=True)
class ByteRange:
    """A file inside a file (a member of an uncompressed tar, say): `size` bytes of `path` from `offset`."""

    path: Path
    offset: int
    size: int


def check_has_model(run: Path) -> None:
    """Raises UsageError for a run directory without a model."""
    if run.is_dir() and not (run / MODEL_FILE).is_file():
        raise UsageError(f"{run}: contains no {MODEL_FILE}; name a run whose first validation has finished")


def check_writable(folder: Path, setting: str) -> None:
    """Raise UsageError if no file can be made in the folder, or in its nearest existing parent."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{setting}: {there} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise UsageError(f"{setting}: cannot write in {there} ({error.strerror}); name another folder") from None


def check_output(file: Path, setting: str) -> None:
    """Raise UsageError if `file` cannot be written: a device, a pipe, a folder, or in a folder that is not writable."""
    if file.is_dir():
        raise UsageError(f"{setting}: is a folder; name the file to write")
    if file.exists() and not file.is_file():
        raise UsageError(f"{setting}: is a device or a pipe; name an ordinary file, which is written as a whole")
    check_writable(followed(file).parent, setting)


def followed(file: Path) -> Path:
    """The file that a link points to, so that the link is not replaced by what is written; others unchanged."""
    return Path(os.path.realpath(file)) if file.is_symlink() else file


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it replaces `path` when the body succeeds, else it is removed.

    Raises UsageError for a device or a pipe, which would be lost.
    """
    if not path.is_symlink() and path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path}: is a device or a pipe; name an ordinary file")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(6)}.part")  # short: names of 255 bytes exist
    try:
        with naming(path):
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the path to system errors of the body that name none, as those of writing to an open file on a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """As `beside`, for a folder: an empty hidden folder, which replaces whatever is at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, before = (path.with_name(f".{secrets.token_hex(6)}.part") for _ in range(2))
    part.mkdir()
    try:
        yield part
        if path.exists():
            path.rename(before)
        part.rename(path)
    finally:
        for folder in (part, before):
            shutil.rmtree(folder, ignore_errors=True)


def fresh_folder(path: Path) -> Path:
    """Create a new folder: `path`, or path-2, path-3 and so on where those exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # there is always a next number


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`; after a failure the previous file is still there."""
    with beside(path) as part:
        part.write_bytes(data)


def place_if_absent(part: Path, path: Path) -> bool:
    """Link the complete, synced file `part` as `path` unless `path` exists; returns whether it was linked.

    `part` keeps its own name too. Of several callers at once one succeeds, on NFS too (a hard link is atomic).
    """
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links: a copy appears whole, as late as can be
        if path.exists():
            return False
        with beside(path) as copy:
            shutil.copyfile(part, copy)
    return True


def write_if_absent(path: Path, data: bytes) -> bool:
    """Write `data` to `path` unless it exists; returns whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        with naming(path):
            part.write_bytes(data)
            with part.open("rb") as file:
                os.fsync(file.fileno())
        return place_if_absent(part, path)
    finally:
        part.unlink(missing_ok=True)


def expanded(name: str | Path) -> Path:
    """`~/videos` in the home folder; unchanged where a file of that name exists, or no such user."""
    path = Path(name)
    if os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def check_utf8(folder: Path) -> Path:
    """`folder`, for weights. Raises UsageError for a name that safetensors cannot open."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{folder}: its name is not UTF-8, which safetensors requires; choose another folder"
        ) from None
    return folder


def split_pattern(pattern: str) -> tuple[Path, str]:
    """Split a pattern into the folder that exists, even if its name looks like a pattern (`[2024] x`), and the rest."""
    folder, parts = Path("/" if pattern.startswith("/") else "."), list(Path(pattern).parts)
    parts = parts[1:] if pattern.startswith("/") else parts
    while len(parts) > 1 and os.path.lexists(folder / parts[0]):
        folder /= parts.pop(0)
    return folder, "/".join(parts)


def matching(pattern: str) -> list[Path]:
    """The paths that a pattern matches, sorted by name; ** matches nested folders."""
    folder, rest = split_pattern(pattern)
    return sorted(folder / name for name in glob.glob(rest, root_dir=folder, recursive=True))  # noqa: PTH207


def is_address(path: Path) -> bool:
    """http://host/x and the like, which pathlib shortens to http:/host/x."""
    return re.match(r"[a-z][a-z0-9+.-]*:/", str(path), re.IGNORECASE) is not None


def absolutes(paths: Iterable[Path]) -> Iterator[str]:
    """Absolute paths with symlinks of the folders resolved, and that of the file itself kept."""
    folders: dict[str, str] = {}
    for path in paths:
        folder, slash, name = str(path).rpartition("/")
        if folder not in folders:
            folders[folder] = str(Path(folder or slash or ".").resolve()).rstrip("/")
        yield f"{folders[folder]}/{name}"
