"""Open a file below a folder without following a link on the way, also while the folders are being changed.

Linux does this in one call (openat2, since 5.6). Where it is missing, or a container forbids it, each folder is opened
from its parent.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_OPENAT2 = 437  # on every architecture
_NO_MAGIC_LINKS, _NO_SYMLINKS, _BENEATH = 2, 4, 8  # linux/openat2.h
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNKNOWN = (errno.ENOSYS, errno.EPERM, errno.E2BIG)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: Path, path: str, flags: int) -> int:
    """A descriptor of `path`, which lies below `root`. The path to `root` itself may have links.

    Raises OSError as os.open does, ELOOP for a link below `root`, EXDEV for a path that does not lie below it.
    """
    try:
        way = Path(path).absolute().relative_to(root.absolute())
    except ValueError:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path) from None
    if ".." in way.parts:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    if "\0" in path:
        raise ValueError("embedded null byte")
    at = os.open(root, _FOLDER)
    try:
        if sys.platform == "linux":
            fd, error = _openat2(at, os.fsencode(way), flags)
            if error not in _UNKNOWN:
                if error:
                    raise OSError(error, os.strerror(error), path)
                return fd
        return _step_by_step(at, way.parts, flags)
    finally:
        os.close(at)


def _openat2(at: int, way: bytes, flags: int) -> tuple[int, int]:
    """The descriptor, and the error number or 0."""
    how = _How(flags | os.O_CLOEXEC, 0, _NO_MAGIC_LINKS | _NO_SYMLINKS | _BENEATH)
    libc = ctypes.CDLL(None, use_errno=True)
    while True:
        fd = libc.syscall(
            ctypes.c_long(_OPENAT2), ctypes.c_int(at), way, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        error = ctypes.get_errno() if fd < 0 else 0
        if error not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: a folder was renamed meanwhile
            return fd, error


def _step_by_step(at: int, names: tuple[str, ...], flags: int) -> int:
    folder = os.dup(at)
    try:
        for name in names[:-1]:
            below = _open_folder(name, folder)
            os.close(folder)
            folder = below
        return os.open(names[-1] if names else ".", flags | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _open_folder(name: str, at: int) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
    except NotADirectoryError:
        if (os.stat(name, dir_fd=at, follow_symlinks=False).st_mode & 0o170000) == 0o120000:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise
