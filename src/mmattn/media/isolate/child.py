"""The decoding process as its owner holds it: a nursery, and the socket to the worker that it forked last.

The nursery is started by command line, not by multiprocessing: it never imports __main__, so it works the same from a
script without a guard, `python -m`, a console script, a notebook or a test. With -P it imports nothing from the current
folder, whatever the names of the files there.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from typing import Any

from mmattn.errors import MmattnError
from mmattn.media.isolate.wire import Message, receive, send

_START_S = 120.0  # importing on a loaded machine
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from mmattn.media.isolate.worker import nursery; "
_BOOT += "nursery(int(sys.argv[1]))"


class Child:
    """A nursery process and its present worker."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        folders = json.dumps([folder for folder in sys.path if folder])  # "" is the current folder
        command = [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), folders]
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
        self._worker: socket.socket | None = None
        self.pid = 0  # of the worker
        self.interrupted = False
        if self._read(1) != b"\x00":
            self.close()
            raise MmattnError("the decoding process did not start; its own message is above")

    def _read(self, count: int) -> bytes:
        try:
            return self._control.recv(count, socket.MSG_WAITALL)
        except (TimeoutError, ConnectionError):
            return b""

    def renew(self) -> int | None:
        """A fresh worker; the wait status of the one before, 0 if there was none. None: the nursery has died."""
        if self._worker is not None:
            self._worker.close()
        self._worker, theirs = socket.socketpair()
        self.interrupted = False
        reply = b""
        with theirs, suppress(OSError):
            socket.send_fds(self._control, [b"n"], [theirs.fileno()])
            reply = self._read(8)
        if len(reply) != 8:
            return None
        self.pid, status = struct.unpack("<ii", reply)
        return status

    def ask(self, question: dict[str, Any], descriptors: list[int], within_s: float) -> None:
        """Send a question; what a dead worker does not take is noticed by `hear`. Raises TimeoutError."""
        assert self._worker is not None
        self._worker.settimeout(within_s)
        with suppress(ConnectionError):
            send(self._worker, question, descriptors=descriptors)

    def hear(self, at_most: int, within_s: float) -> Message | None:
        """A message of the worker, None if it died, is no longer itself or was interrupted. Raises TimeoutError."""
        assert self._worker is not None
        message = receive(self._worker, at_most, within_s)
        for descriptor in message.descriptors if message is not None else ():
            os.close(descriptor)  # a worker has none to give
        return message

    def interrupt(self) -> None:
        """From another thread: `hear` gives None at once. The worker has to be renewed."""
        self.interrupted = True
        if self._worker is not None:
            with suppress(OSError):
                self._worker.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up. A process forked from the owner only drops its copies."""
        mine = self.owner == os.getpid()
        for end in (self._worker, self._control):
            if end is not None:
                if mine:
                    with suppress(OSError):  # the other end has gone already
                        end.shutdown(socket.SHUT_RDWR)  # forked copies, which nobody closes, must not keep it open
                end.close()
        if mine:
            self._process.wait()
        else:
            self._process.returncode = 0  # not our child to wait for
