"""Files inside files, and writing files that are whole or absent: beside the target, synced, put in its place."""

from __future__ import annotations

import glob
import itertools
import os
import re
import secrets
import shutil
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


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes `path`'s place when the body ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(6)}.part")  # short: names of 255 bytes exist
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """As `beside`, for a folder: an empty hidden one, which takes the place of `path`, whatever that was."""
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
    """Make a folder that was not there: `path`, or path-2, path-3 where others were first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # there is always a next number


def write_atomically(path: Path, data: bytes) -> None:
    """The whole of `data` at `path`, or what was there before."""
    with beside(path) as part:
        part.write_bytes(data)


def place_if_absent(part: Path, path: Path) -> bool:
    """Give the whole, synced file `part` the name `path` unless there is a file of that name; whether it was given.

    `part` keeps its own name too. Of any number of callers at once one succeeds, on NFS too (a hard link is atomic).
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
    """The whole of `data` at `path` unless there is a file of that name; whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        part.write_bytes(data)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        return place_if_absent(part, path)
    finally:
        part.unlink(missing_ok=True)


def expanded(name: str | Path) -> Path:
    """`~/videos` in the home folder; a name as it stands where something is called so, or no user is."""
    path = Path(name)
    if os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def check_utf8(folder: Path) -> Path:
    """`folder`, which weights are to be kept in. Raises UsageError for a name that safetensors could not open."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{folder}: its name is not UTF-8, as files of weights need it; choose another") from None
    return folder


def split_pattern(pattern: str) -> tuple[Path, str]:
    """A pattern as the folder that is there, whatever its name looks like (`[2024] x`), and what is left to match."""
    folder, parts = Path("/" if pattern.startswith("/") else "."), list(Path(pattern).parts)
    parts = parts[1:] if pattern.startswith("/") else parts
    while len(parts) > 1 and os.path.lexists(folder / parts[0]):
        folder /= parts.pop(0)
    return folder, "/".join(parts)


def matching(pattern: str) -> list[Path]:
    """What a pattern matches, in the order of names; ** matches folders in folders."""
    folder, rest = split_pattern(pattern)
    return sorted(folder / name for name in glob.glob(rest, root_dir=folder, recursive=True))  # noqa: PTH207


def is_address(path: Path) -> bool:
    """http://host/x and the like, which pathlib shortens to http:/host/x."""
    return re.match(r"[a-z][a-z0-9+.-]*:/", str(path), re.IGNORECASE) is not None


def absolutes(paths: Iterable[Path]) -> Iterator[str]:
    """Each path as one name for its file: absolute, the links among its folders followed, the file itself not."""
    folders: dict[str, str] = {}
    for path in paths:
        folder, slash, name = str(path).rpartition("/")
        if folder not in folders:
            folders[folder] = str(Path(folder or slash or ".").resolve()).rstrip("/")
        yield f"{folders[folder]}/{name}"
