"""Restrict the decoding process before it reads its first file, without special privileges.

Each layer is optional, as kernels and containers differ; whether it is in effect is found by trying what it forbids.
Decoding needs none of these rights: the media comes as an open descriptor, and everything else was loaded before.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable

from mmattn.media.isolate import landlock, seccomp

_SET_DEATH_SIGNAL, _GET_DUMPABLE, _SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _GET_NO_NEW_PRIVILEGES = 1, 3, 4, 38, 39
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_TRACE_SEIZE = 0x4206


def seal() -> list[str]:
    """Apply every layer, permanently; returns the names of those in effect. For a process with one thread."""
    return [name for name, (apply, holds) in _LAYERS.items() if _done(apply) and holds()]


def attempts() -> dict[str, bool]:
    """Whether the system refuses what a hostile file would try. For a sealed process."""
    return {name: _refused(attempt) for name, attempt in _ATTEMPTS.items()}


def _done(apply: Callable[[], object]) -> bool:
    try:
        apply()
    except (OSError, AttributeError):  # an older kernel, or a container that forbids it; a system without the call
        return False
    return True


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES)
    return False


def _prctl(what: int, value: int = 0) -> int:
    return _checked(ctypes.CDLL(None, use_errno=True).prctl(what, *(ctypes.c_ulong(each) for each in (value, 0, 0, 0))))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _leave_the_network() -> None:
    """Enter a new network namespace, whose only interface is a loopback that is down."""
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NETWORK))


def _alone() -> bool:
    return {name for _, name in socket.if_nameindex()} <= {"lo"}


def _fork() -> None:
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)


def _trace_parent() -> None:
    """PTRACE_SEIZE wants the address to be 0: where tracing is allowed, the call fails for that instead."""
    parent, address, data = ctypes.c_long(os.getppid()), ctypes.c_void_p(1), ctypes.c_void_p()
    _checked(ctypes.CDLL(None, use_errno=True).ptrace(ctypes.c_long(_TRACE_SEIZE), parent, address, data))


def _connect() -> None:
    with socket.socket() as one:
        one.connect(("127.0.0.1", 9))


# In this order: entering a user namespace would undo the next two, and the filter allows none of the calls.
_LAYERS: dict[str, tuple[Callable[[], object], Callable[[], bool]]] = {
    "network namespace": (_leave_the_network, _alone),
    "death with its parent": (lambda: _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL), lambda: True),
    "no core dumps": (lambda: _prctl(_SET_DUMPABLE, 0), lambda: _prctl(_GET_DUMPABLE) == 0),
    "no new privileges": (lambda: _prctl(_SET_NO_NEW_PRIVILEGES, 1), lambda: _prctl(_GET_NO_NEW_PRIVILEGES) == 1),
    "landlock": (landlock.apply, lambda: _refused(lambda: os.open("/", os.O_RDONLY))),
    "seccomp": (seccomp.apply, lambda: _refused(socket.socket)),
}
_ATTEMPTS: dict[str, Callable[[], object]] = {
    "open a file": lambda: os.open(sys.executable, os.O_RDONLY),
    "write a file": lambda: os.open(os.devnull, os.O_WRONLY),
    "delete a file": lambda: os.unlink("/does/not/exist"),  # noqa: PTH108
    "open a socket": lambda: socket.socket().close(),
    "connect": _connect,
    "start a process": _fork,
    "start a program": lambda: os.execv("/does/not/exist", ["x"]),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "trace its parent": _trace_parent,
}
