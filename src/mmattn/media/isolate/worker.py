"""The process side of IsolatedReader: a nursery that imports the decoder once, no torch, and forks worker by worker.

The nursery talks to its owner on a control socket: a byte with a descriptor asks for a new worker on that socket, the
answer tells how the one before ended. When the owner is gone the socket closes, and nursery and worker end with it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mmattn.errors import MediaError
from mmattn.media.isolate.wire import pack, receive, send
from mmattn.media.open.container import Limits, one_line
from mmattn.media.open.source import Source, taken_over
from mmattn.media.read.decode import decode
from mmattn.media.read.request import Request
from mmattn.media.read.windows import Windows, decode_windows
from mmattn.media.survey.survey import survey

OUT_OF_MEMORY = 12  # exit status


def nursery(control_fd: int) -> None:
    """Serve worker after worker until the owner closes the control socket."""
    for number in (signal.SIGTERM, signal.SIGUSR1):  # a cluster signals every process of a job; the owner decides
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    control.sendall(b"\x00")  # imported, ready
    worker = 0
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        status = _end(worker)
        if not message:
            return
        worker = os.fork()
        if worker == 0:
            control.close()
            _live(fds[0])
        os.close(fds[0])
        control.sendall(struct.pack("<ii", worker, status))


def _end(worker: int) -> int:
    """Kill and reap; the status the worker had if it was dead already, else that of the kill."""
    if not worker:
        return 0
    os.kill(worker, signal.SIGKILL)  # not yet reaped, so the id is still its own
    return os.waitpid(worker, 0)[1]


def _live(fd: int) -> NoReturn:
    """The whole life of a worker; it must never return into the nursery's loop."""
    status = 1
    try:
        _work(socket.socket(fileno=fd))
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY  # too little left even to say so
    finally:
        os._exit(status)


def _work(owner: socket.socket) -> None:
    """Answer questions until the owner hangs up."""
    while (asked := receive(owner)) is not None:
        room = asked.head["memory_bytes"], asked.head["cpu_s"]
        _restrict(*room)
        with taken_over(asked.head["source"], asked.descriptors) as source:
            for head, samples in _answers(asked.head, source):
                send(owner, head, samples)
                _restrict(*room)


def _restrict(memory_bytes: int, cpu_s: float) -> None:
    """Room for one more file: so much memory above what is mapped, so much more processor time, no file written."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere the memory stays uncapped
        _lower(resource.RLIMIT_AS, int(statm.read_text().split()[0]) * resource.getpagesize() + memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + cpu_s) + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _lower(what: int, soft: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _answers(asked: dict[str, Any], source: Source) -> Iterator[tuple[dict[str, Any], Sequence[np.ndarray]]]:
    """The messages that answer a question; all but the last say that there is more."""
    how = Limits(**asked["limits"]), asked["deadline_s"], asked["follow_symlinks"]
    try:
        if "survey" in asked:
            yield (
                survey(source, asked["survey"], limits=how[0], deadline_s=how[1], follow_symlinks=how[2]).to_dict(),
                [],
            )
        elif "window_s" in asked:
            windows = Windows(asked["window_s"], asked["hop_s"], Request(**asked["request"]))
            for part in decode_windows(windows, source, *how):
                head, samples = pack(part)
                yield head | {"more": True}, samples
            yield {}, []
        else:
            yield pack(decode(Request(**asked["request"]), source, *how))
    except MediaError as error:
        yield {"failed": error.reason, "detail": error.detail}, []
    except MemoryError:
        yield {"failed": "too_large", "detail": "out of memory"}, []
    except Exception as error:  # a fault of the reader's own also costs one file, and says what it was
        yield {"failed": "crashed", "detail": one_line(error)}, []
