"""read_clip in a process of its own: a crash or a hang of the decoder costs one file.

The child is started by command line, not by multiprocessing: it never imports __main__, so it works the same from a
script without a guard, `python -m`, a console script, a notebook or a test.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from mmattn.errors import MEDIA_REASONS, MediaError, MmattnError
from mmattn.media.isolate.wire import Message, receive, send, unpack
from mmattn.media.isolate.worker import OUT_OF_MEMORY
from mmattn.media.open.container import Limits
from mmattn.media.open.source import Source, handed_over, name_of
from mmattn.media.read.request import Request
from mmattn.media.read.windows import Windows
from mmattn.media.survey.survey import Depth, Survey

if TYPE_CHECKING:
    from mmattn.types import Clip

_START_S = 120.0  # importing on a loaded machine
_GRACE_S = 2.0  # the decoder's own deadline fires first; only a native hang outlasts it by this much
_T = TypeVar("_T")
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from mmattn.media.isolate.worker import nursery; "
_BOOT += "nursery(int(sys.argv[1]))"


class _Child:
    """The nursery process and the socket to its present worker."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is for the owner, who then closes
            )
        self._control = ours
        self._control.settimeout(_START_S)
        self.owner = os.getpid()
        self.worker: socket.socket | None = None
        self.pid = 0
        if self._read(1) != b"\x00":
            self.close()
            raise MmattnError("the decoding process did not start; its own message is above")

    def _read(self, count: int) -> bytes:
        try:
            return self._control.recv(count, socket.MSG_WAITALL)
        except (TimeoutError, ConnectionError):
            return b""

    def renew(self) -> int:
        """A fresh worker; the wait status of the one before, 0 if there was none."""
        if self.worker is not None:
            self.worker.close()
        self.worker, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"n"], [theirs.fileno()])
            reply = self._read(8)
        if len(reply) != 8:
            raise MmattnError("the decoding process's nursery died; start a new IsolatedReader")
        self.pid, status = struct.unpack("<ii", reply)
        return status

    def tell(self, head: dict[str, Any], descriptors: list[int], within_s: float) -> None:
        """Send a question; what a dead worker does not take is noticed by `hear`. Raises TimeoutError."""
        assert self.worker is not None
        self.worker.settimeout(within_s)
        with suppress(ConnectionError):
            send(self.worker, head, descriptors=descriptors)

    def hear(self, at_most: int, within_s: float) -> Message | None:
        """A message of the worker, None if it died or is no longer itself. Raises TimeoutError."""
        assert self.worker is not None
        return receive(self.worker, at_most, within_s)

    def close(self) -> None:
        """Hang up. A process forked from the owner only drops its copies."""
        mine = self.owner == os.getpid()
        for end in (self.worker, self._control):
            if end is not None:
                if mine:
                    with suppress(OSError):  # the other end has gone already
                        end.shutdown(socket.SHUT_RDWR)  # forked copies, which nobody closes, must not keep it open
                end.close()
        if mine:
            self._process.wait()
        else:
            self._process.returncode = 0  # not our child to wait for


class IsolatedReader:
    """Reads clips in a worker process with a deadline and resource limits. Not for several threads at once.

    `deadline_s`: wall time for one file, after which the worker is killed. `memory_bytes`: what decoding one file may
    map beyond the idle process. `cpu_s`: processor time for one file, None = the deadline.
    """

    def __init__(
        self,
        *,
        deadline_s: float = 60.0,
        memory_bytes: int = 4 << 30,
        cpu_s: float | None = None,
        limits: Limits | None = None,
        follow_symlinks: bool = False,
    ) -> None:
        self._deadline_s = deadline_s
        self._resources = {"memory_bytes": memory_bytes, "cpu_s": deadline_s if cpu_s is None else cpu_s}
        self._limits = limits or Limits()
        self._follow_symlinks = follow_symlinks
        self._child: _Child | None = None
        self._asking = False

    def read(self, src: Source, request: Request) -> Clip:
        """What read_clip(src, ...) with the arguments of `request` returns.

        Raises what it raises, and MediaError "crashed" or "timeout" where the worker died or had to be killed.
        """
        message = self._one(src, {"request": asdict(request)})
        return _sense(src, lambda: unpack(message.head, message.samples, name_of(src)).clip())

    def windows(self, src: Source, windows: Windows) -> Iterator[Clip]:
        """What iter_windows(src, ...) with the arguments of `windows` gives; raises as `read` does.

        The deadline and the processor time are for each window. While one is used, the next is already decoded.
        """
        asked = {"window_s": windows.window_s, "hop_s": windows.hop_s, "request": asdict(windows.request)}
        for message in self._ask(src, asked):
            if message.head:
                yield _sense(src, lambda message=message: unpack(message.head, message.samples, name_of(src)).clip())

    def survey(self, src: Source, depth: Depth) -> Survey:
        """What survey(src, depth) returns; raises as `read` does."""
        message = self._one(src, {"survey": depth})
        return _sense(src, lambda: Survey.from_dict(message.head))

    def _one(self, src: Source, asked: dict[str, Any]) -> Message:
        with closing(self._ask(src, asked)) as messages:
            return next(messages)

    def _ask(self, src: Source, asked: dict[str, Any]) -> Generator[Message]:
        """The messages that answer a question. A worker that is left with more to say, for any reason, is ended."""
        path = name_of(src)
        if self._asking:
            raise MmattnError(f"{path}: this reader is still giving the windows of a file; close them or take another")
        child = self._started()
        self._asking, more = True, False
        within_s = self._deadline_s + _GRACE_S
        try:
            with handed_over(src) as (told, descriptors):
                how = {"limits": asdict(self._limits), "deadline_s": self._deadline_s}
                how |= {"follow_symlinks": self._follow_symlinks, "source": told} | self._resources
                more = True
                child.tell(asked | how, descriptors, within_s)
            while more:
                message = child.hear(2 * self._limits.decoded_bytes + (1 << 20), within_s)
                if message is None:
                    more = False
                    raise _death(path, child.renew())
                more = bool(message.head.pop("more", False))
                if "failed" in message.head:
                    reason, detail = message.head["failed"], str(message.head.get("detail"))
                    raise MediaError(path, reason if reason in MEDIA_REASONS else "crashed", detail)
                yield message
        except TimeoutError:
            raise MediaError(path, "timeout", f"not read within {self._deadline_s} s, worker killed") from None
        finally:
            self._asking = False
            if more and self._child is child:
                child.renew()

    @property
    def worker_pid(self) -> int:
        """The present worker's process id; starts it if need be."""
        return self._started().pid

    def interrupt(self) -> None:
        """From another thread: end the read that is under way; it raises MediaError "crashed"."""
        child = self._child
        if child is not None and child.pid:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def _started(self) -> _Child:
        if self._child is not None and self._child.owner != os.getpid():
            self._child.close()  # forked: the worker belongs to the parent process
            self._child = None
        if self._child is None:
            self._child = _Child()
            self._child.renew()
        return self._child

    def close(self) -> None:
        """End the worker. The reader may be used again, with a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_child": None, "_asking": False}  # a copy in another process starts its own worker


def _sense(src: Source, make: Callable[[], _T]) -> _T:
    """What `make` makes of an answer; a worker that a file took over may say anything."""
    try:
        return make()
    except ValueError as error:
        raise MediaError(name_of(src), "crashed", f"the worker's answer makes no sense: {error}") from None


def _death(path: str, status: int) -> MediaError:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return MediaError(path, "timeout", "out of processor time")
    if os.WIFSIGNALED(status):
        return MediaError(path, "crashed", f"worker ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if os.waitstatus_to_exitcode(status) == OUT_OF_MEMORY:
        return MediaError(path, "too_large", "out of memory")
    return MediaError(path, "crashed", f"worker exited with status {os.waitstatus_to_exitcode(status)}")
