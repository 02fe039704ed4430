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
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any

from mmattn.errors import MEDIA_REASONS, MediaError, MmattnError
from mmattn.media.open import Limits
from mmattn.media.request import Request
from mmattn.media.source import Source, handed_over, name_of
from mmattn.media.survey import Depth, Survey
from mmattn.media.worker import OUT_OF_MEMORY, question, receive, send, unpack
from mmattn.types import Clip

_START_S = 120.0  # importing torch on a loaded machine
_GRACE_S = 2.0  # the decoder's own deadline fires first; only a native hang outlasts it by this much
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from mmattn.media.worker import nursery; "
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

    def read(self, src: Source, request: Request) -> Clip:
        """What read_clip(src, ...) with the arguments of `request` returns.

        Raises what it raises, and MediaError "crashed" or "timeout" where the worker died or had to be killed.
        """
        head, samples = self._answer(src, {"request": asdict(request)})
        return unpack(head, samples, name_of(src))

    def survey(self, src: Source, depth: Depth) -> Survey:
        """What survey(src, depth) returns; raises as `read` does."""
        head, _ = self._answer(src, {"survey": depth})
        try:
            return Survey.from_dict(head)
        except ValueError as error:  # a worker that a file took over may say anything
            raise MediaError(name_of(src), "crashed", f"the worker's answer makes no sense: {error}") from None

    def _answer(self, src: Source, asked: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        path = name_of(src)
        child = self._started()
        assert child.worker is not None
        try:
            with handed_over(src) as (told, descriptors):
                asked = question(asked, told, self._limits, self._deadline_s, self._follow_symlinks)
                child.worker.settimeout(self._deadline_s + _GRACE_S)
                at_most = 2 * self._limits.decoded_bytes + (1 << 20)
                reply = _ask(child.worker, asked | self._resources, descriptors, at_most)
        except TimeoutError:
            child.renew()
            raise MediaError(path, "timeout", f"not read within {self._deadline_s} s, worker killed") from None
        if reply is None:
            raise _death(path, child.renew())
        head, samples = reply
        if "failed" in head:
            reason = head["failed"]
            raise MediaError(path, reason if reason in MEDIA_REASONS else "crashed", str(head["detail"]))
        return head, samples

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
        return self.__dict__ | {"_child": None}  # a copy in another process starts its own worker


def _ask(
    worker: socket.socket, asked: dict[str, Any], descriptors: list[int], at_most: int
) -> tuple[dict[str, Any], bytearray] | None:
    """The answer, or None if the worker died or is no longer itself."""
    try:
        send(worker, asked, [], descriptors)
        reply = receive(worker, at_most)
        return reply and reply[:2]
    except (ConnectionError, json.JSONDecodeError):
        return None


def _death(path: str, status: int) -> MediaError:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return MediaError(path, "timeout", "out of processor time")
    if os.WIFSIGNALED(status):
        return MediaError(path, "crashed", f"worker ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if os.waitstatus_to_exitcode(status) == OUT_OF_MEMORY:
        return MediaError(path, "too_large", "out of memory")
    return MediaError(path, "crashed", f"worker exited with status {os.waitstatus_to_exitcode(status)}")
