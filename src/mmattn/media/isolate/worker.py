"""The worker side of IsolatedReader: a nursery process imports the decoder once, without torch, and forks workers.

The nursery has a control socket: a byte with a descriptor requests a new worker on that socket, and the reply contains
the status of the worker before. When the parent ends, the socket closes, and nursery and worker end too. A worker is
sealed (see sandbox) before its first request, and opens nothing afterwards.
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
from mmattn.media.open.source import Source, from_descriptor
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
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # a cluster signals every process of a job
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
    """Import all modules that PyAV, numpy and Pillow would import later: a worker can open no file."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("numpy.ma", "PIL.Image"):
        importlib.import_module(name)


def _end(worker: int) -> int:
    """Kill and reap the worker; returns its status, which is an earlier one if it was dead already."""
    if not worker:
        return 0
    os.kill(worker, signal.SIGKILL)  # not yet reaped, so the id is still its own
    return os.waitpid(worker, 0)[1]


def _live(fd: int, nursery_pid: int) -> NoReturn:
    """Run a worker to its end; it must never return into the nursery's loop."""
    status = 1
    try:
        statm = os.open("/proc/self/statm", os.O_RDONLY) if sys.platform == "linux" else None
        owner = socket.socket(fileno=fd)
        os.dup2(1, 2)  # discarded: a decoder's output may come from a file
        layers = sandbox.seal()
        if os.getppid() == nursery_pid:  # it is still alive, and from now on ends the worker with it
            _work(owner, statm, layers)
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY  # too little left to report it
    finally:
        os._exit(status)


def _work(owner: socket.socket, statm: int | None, layers: list[str]) -> None:
    """Answer requests until the parent closes the socket. The first message of each only says that it has begun."""
    while (message := receive(owner)) is not None:
        send(owner, {"more": True})
        if "sandbox" in message.head:
            send(owner, {"layers": layers, "refused": sandbox.attempts()})
            continue
        room = statm, message.head["memory_bytes"], message.head["cpu_s"]
        _restrict(*room)
        with from_descriptor(message.head["source"], message.descriptors) as source:
            for head, samples in _answers(message.head, source):
                send(owner, head, samples)
                _restrict(*room)


def _restrict(statm: int | None, memory_bytes: int, cpu_s: float) -> None:
    """Set the limits for one file: memory beyond what is mapped now, further CPU time, no file writes.

    `statm`: that of this process, open; None: not Linux, and memory is not limited.
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


def _answers(request: dict[str, Any], source: Source) -> Iterator[tuple[dict[str, Any], Sequence[np.ndarray]]]:
    """The messages that answer a request; all but the last have "more"."""
    limits, deadline_s = Limits(**request["limits"]), request["deadline_s"]
    try:
        if "survey" in request:
            yield survey(source, request["survey"], limits=limits, deadline_s=deadline_s).to_dict(), []
        elif "window_s" in request:
            views = tuple(FrameView(**view) for view in request["views"])
            windows = Windows(
                request["window_s"],
                request["hop_s"],
                Request(**request["request"]),
                views,
                tuple(request["audio_rates"]),
            )
            for part in decode_windows(windows, source, limits, deadline_s):
                head, samples = pack(part)
                yield head | {"more": True}, samples
            yield {}, []
        elif "bundle" in request:
            yield pack(decode_bundle(Request(**request["bundle"]), source, limits, deadline_s))
        else:
            yield pack(decode(Request(**request["request"]), source, limits, deadline_s))
    except MediaError as error:
        yield {"failed": error.reason, "detail": error.detail}, []
    except MemoryError:
        yield {"failed": "too_large", "detail": "out of memory"}, []
    except Exception as error:  # an error of the reader itself also costs one file and is reported
        yield {"failed": "crashed", "detail": one_line(error)}, []
