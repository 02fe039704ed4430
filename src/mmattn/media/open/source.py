"""What can be read: a path, a range of a file, bytes, or a seekable binary file; each as bytes at an offset."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from mmattn.errors import MediaError
from mmattn.files import ByteRange
from mmattn.media.open.beneath import open_beneath

_COPIED = 1 << 20  # bytes per read


@dataclass(frozen=True)
class Opened:
    """An open descriptor, or a range of it. `name`: its path, for messages."""

    fd: int
    name: str
    range: tuple[int, int] | None = None  # offset and size, bytes


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | ByteRange | Opened


@dataclass(frozen=True)
class Content:
    """`size` bytes; `read_at(position, count)` returns some of them. `stamp()` differs after the content changed."""

    size: int
    read_at: Callable[[int, int], bytes]
    stamp: Callable[[], object] = lambda: None


def name_of(src: Source) -> str:
    """The name in messages and Clip.source: the path, "x.tar[512:10240]", "<bytes>", or a file object's own name.

    Raises TypeError for other types than Source.
    """
    if isinstance(src, ByteRange):
        return f"{os.fsdecode(src.path)}[{src.offset}:{src.offset + src.size}]"
    if isinstance(src, Opened):
        return src.name
    if isinstance(src, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(src, (str, os.PathLike)):
        return os.fsdecode(src)
    if not (hasattr(src, "read") and hasattr(src, "seek")):
        raise TypeError(f"expected a path, bytes, a binary file or a ByteRange, got {type(src).__name__}")
    name = getattr(src, "name", None)
    return name if isinstance(name, str) and name else "<file>"


@contextmanager
def open_source(src: Source, follow_symlinks: bool = False) -> Iterator[Content]:
    """The content of `src`. Nothing outside a range is read; a file object is read from its beginning.

    Raises MediaError: unreadable, or truncated for a range beyond its file's end. ValueError for a range below 0 and
    for a file object that is text or cannot seek.
    """
    if isinstance(src, (bytes, bytearray, memoryview)):
        view = memoryview(src).cast("B")
        yield Content(len(view), lambda position, count: bytes(view[position : position + count]))
    elif isinstance(src, Opened):
        _demand_regular(src.fd, src.name)
        yield _whole_of(src.fd) if src.range is None else _range_of(src.fd, *src.range, src.name)
    elif isinstance(src, (str, os.PathLike, ByteRange)):
        with opened(src, follow_symlinks) as one, open_source(one) as content:
            yield content
    elif (fd := descriptor_of(src)) is not None:
        _demand_regular(fd, name_of(src))
        yield _whole_of(fd)
    else:
        yield _of_object(src)


@contextmanager
def opened(
    src: str | os.PathLike[str] | ByteRange, follow_symlinks: bool = False, beneath: Path | None = None
) -> Iterator[Opened]:
    """Open a path, or a range of it. Raises MediaError "unreadable", also for a file that is a symbolic link.

    Links in the folders of the path are followed, but none below `beneath`, a folder whose own path has no links.
    `follow_symlinks` allows all links.
    """
    name, path = name_of(src), os.fsdecode(src.path if isinstance(src, ByteRange) else src)
    fd = _open_regular(path, name, None if follow_symlinks else beneath, follow_symlinks)
    try:
        yield Opened(fd, name, (src.offset, src.size) if isinstance(src, ByteRange) else None)
    finally:
        os.close(fd)


@contextmanager
def as_descriptor(
    src: Source, follow_symlinks: bool = False, beneath: Path | None = None
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """`src` for another process, which then opens nothing: a description for JSON, and the descriptor.

    Bytes, and file objects that are not plain files, are first copied to an unnamed file. Raises MediaError:
    unreadable.
    """
    if isinstance(src, (str, os.PathLike, ByteRange)):
        with opened(src, follow_symlinks, beneath) as one:
            yield {"name": one.name, "range": one.range}, [one.fd]
    elif not isinstance(src, (bytes, bytearray, memoryview, Opened)) and (fd := descriptor_of(src)) is not None:
        yield {"name": name_of(src)}, [fd]
    else:
        with open_source(src) as content, _unnamed() as file:
            try:
                for position in range(0, content.size, _COPIED):
                    file.write(content.read_at(position, _COPIED))
                file.flush()
            except OSError as error:
                raise MediaError(name_of(src), "unreadable", error.strerror or str(error)) from error
            yield {"name": name_of(src)}, [file.fileno()]


@contextmanager
def from_descriptor(description: dict[str, Any], descriptors: list[int]) -> Iterator[Opened]:
    """The source that another process described by `as_descriptor`; its descriptor is closed at the end."""
    fd = descriptors[0]
    try:
        yield Opened(fd, description["name"], None if description.get("range") is None else tuple(description["range"]))
    finally:
        os.close(fd)


def _unnamed() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("media"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def descriptor_of(file: BinaryIO) -> int | None:
    """The descriptor of a plain open file; None where the object's bytes are not those of the descriptor (gzip)."""
    raw = file.raw if type(file) is io.BufferedReader else file
    return raw.fileno() if type(raw) is io.FileIO and raw.readable() else None


def _open_regular(path: str, name: str, beneath: Path | None, follow_symlinks: bool) -> int:
    """A descriptor of a regular file. O_NONBLOCK so that a FIFO or device returns at once."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_symlinks else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags) if beneath is None else open_beneath(beneath, path, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        if not follow_symlinks and getattr(error, "errno", None) in (errno.ELOOP, errno.EXDEV):
            raise MediaError(name, "unreadable", "a symbolic link; allow it with follow_symlinks") from error
        raise MediaError(name, "unreadable", getattr(error, "strerror", None) or str(error)) from error
    try:
        _demand_regular(fd, name)
    except MediaError:
        os.close(fd)
        raise
    return fd


def _demand_regular(fd: int, name: str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise MediaError(name, "unreadable", "not a regular file")


def _stamp_of(fd: int) -> Callable[[], object]:
    def stamp() -> object:
        now = os.fstat(fd)
        return now.st_size, now.st_mtime_ns

    return stamp


def _whole_of(fd: int) -> Content:
    return Content(os.fstat(fd).st_size, lambda position, count: os.pread(fd, count, position), _stamp_of(fd))


def _range_of(fd: int, offset: int, size: int, name: str) -> Content:
    if offset < 0 or size < 0:
        raise ValueError(f"a range starts at 0 or later and is not negative, got {name}")
    if offset + size > (whole := os.fstat(fd).st_size):
        raise MediaError(name, "truncated", f"the range ends beyond the file's {whole} bytes")

    def read_at(position: int, count: int) -> bytes:
        return os.pread(fd, max(min(count, size - position), 0), offset + position)

    return Content(size, read_at, _stamp_of(fd))


def _of_object(file: BinaryIO) -> Content:
    if isinstance(file, io.TextIOBase):
        raise ValueError(f"{name_of(file)}: a text file; open it in binary mode")
    try:
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as error:  # ValueError: closed
        raise ValueError(f"{name_of(file)}: the file object cannot seek ({error}); read it into bytes first") from error

    def read_at(position: int, count: int) -> bytes:
        file.seek(position)
        return file.read(count)

    return Content(size, read_at)
