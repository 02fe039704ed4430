"""The process side of IsolatedReader: a nursery that imports the decoder once, no torch, and forks worker by worker.

The nursery talks to its owner on a control socket: a byte with a descriptor asks for a new worker on that socket, the
answer tells how the one before ended. When the owner is gone the socket closes, and nursery and worker end with it.
A worker is sealed (see sandbox) before it gets a question, and from then on opens nothing.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import av
import numpy as np

from mmattn.errors import MediaError
from mmattn.media.isolate import sandbox
from mmattn.media.isolate.wire import pack, receive, send
from mmattn.media.open.container import Limits, one_line
from mmattn.media.open.source import Source, taken_over
from mmattn.media.read.decode import decode
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import decode_windows
from mmattn.media.read.windows.layout import Windows
from mmattn.media.read.windows.views import FrameView
from mmattn.media.survey.passes import survey
from mmattn.media.write.bundle import decode_bundle

OUT_OF_MEMORY = 12  # exit status


def nursery(control_fd: int) -> None:
    """Serve worker after worker until the owner closes the control socket."""
    for number in (
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):  # a cluster signals every process of a job; the owner decides
        signal.signal(number, signal.SIG_IGN)
    _load_all()
    control = socket.socket(fileno=control_fd)
    control.sendall(b"\x00")  # imported, ready
    worker, own = 0, os.getpid()
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        status = _end(worker)
        if not message:
            return
        worker = os.fork()
        if worker == 0:
            control.close()
            _live(fds[0], own)
        os.close(fds[0])
        control.sendall(struct.pack("<ii", worker, status))


def _load_all() -> None:
    """What PyAV, numpy and Pillow would load when a file first needs it: a worker opens no file, modules neither."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("numpy.ma", "PIL.Image"):
        importlib.import_module(name)


def _end(worker: int) -> int:
    """Kill and reap; the status the worker had if it was dead already, else that of the kill."""
    if not worker:
        return 0
    os.kill(worker, signal.SIGKILL)  # not yet reaped, so the id is still its own
    return os.waitpid(worker, 0)[1]


def _live(fd: int, nursery_pid: int) -> NoReturn:
    """The whole life of a worker; it must never return into the nursery's loop."""
    status = 1
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None
        owner = socket.socket(fileno=fd)
        os.dup2(1, 2)  # nowhere: what a decoder prints may be a file's
        layers = sandbox.seal()
        if os.getppid() == nursery_pid:  # it did not die before the worker was bound to it
            _work(owner, statm, layers)
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY  # too little left even to say so
    finally:
        os._exit(status)


def _work(owner: socket.socket, statm: int | None, layers: list[str]) -> None:
    """Answer questions until the owner hangs up. The first message of an answer says that it is begun."""
    while (asked := receive(owner)) is not None:
        send(owner, {"more": True})
        if "sandbox" in asked.head:
            send(owner, {"layers": layers, "refused": sandbox.attempts()})
            continue
        room = statm, asked.head["memory_bytes"], asked.head["cpu_s"]
        _restrict(*room)
        with taken_over(asked.head["source"], asked.descriptors) as source:
            for head, samples in _answers(asked.head, source):
                send(owner, head, samples)
                _restrict(*room)


def _restrict(statm: int | None, memory_bytes: int, cpu_s: float) -> None:
    """Room for one more file: so much memory above what is mapped, so much more processor time, no file written.

    `statm`: of this process, open; None: not Linux, and the memory stays uncapped.
    """
    if statm is not None:
        mapped = int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, mapped + memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_s) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _lower(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _answers(asked: dict[str, Any], source: Source) -> Iterator[tuple[dict[str, Any], Sequence[np.ndarray]]]:
    """The messages that answer a question; all but the last say that there is more."""
    limits, deadline_s = Limits(**asked["limits"]), asked["deadline_s"]
    try:
        if "survey" in asked:
            yield survey(source, asked["survey"], limits=limits, deadline_s=deadline_s).to_dict(), []
        elif "window_s" in asked:
            views = tuple(FrameView(**view) for view in asked["views"])
            windows = Windows(
                asked["window_s"], asked["hop_s"], Request(**asked["request"]), views, tuple(asked["audio_rates"])
            )
            for part in decode_windows(windows, source, limits, deadline_s):
                head, samples = pack(part)
                yield head | {"more": True}, samples
            yield {}, []
        elif "bundle" in asked:
            yield pack(decode_bundle(Request(**asked["bundle"]), source, limits, deadline_s))
        else:
            yield pack(decode(Request(**asked["request"]), source, limits, deadline_s))
    except MediaError as error:
        yield {"failed": error.reason, "detail": error.detail}, []
    except MemoryError:
        yield {"failed": "too_large", "detail": "out of memory"}, []
    except Exception as error:  # a fault of the reader's own also costs one file, and says what it was
        yield {"failed": "crashed", "detail": one_line(error)}, []
