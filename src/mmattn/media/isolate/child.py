"""The parent's side of a decoding process: the nursery process, and the socket to the worker it forked last.

The nursery is started by command line, not by multiprocessing: it never imports __main__, so it works the same from a
script without a guard, `python -m`, a console script, a notebook or a test. With -P it imports nothing from the current
folder.
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

_START_S = 120.0  # for the imports, on a loaded machine
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
            raise MmattnError("the decoding process failed to start; its error message is above")

    def _read(self, count: int) -> bytes:
        try:
            return self._control.recv(count, socket.MSG_WAITALL)
        except (TimeoutError, ConnectionError):
            return b""

    def renew(self) -> int | None:
        """Start a new worker; returns the wait status of the one before, 0 without one. None: the nursery has died."""
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

    def send(self, request: dict[str, Any], descriptors: list[int], within_s: float) -> None:
        """Send a request; `receive` notices if the worker has died. Raises TimeoutError."""
        assert self._worker is not None
        self._worker.settimeout(within_s)
        with suppress(ConnectionError):
            send(self._worker, request, descriptors=descriptors)

    def receive(self, at_most: int, within_s: float) -> Message | None:
        """The worker's next message; None if it died, sends invalid data or was interrupted. Raises TimeoutError."""
        assert self._worker is not None
        message = receive(self._worker, at_most, within_s)
        for descriptor in message.descriptors if message is not None else ():
            os.close(descriptor)  # a worker has none to send
        return message

    def interrupt(self) -> None:
        """Make `receive` return None at once, from another thread. The worker has to be renewed."""
        self.interrupted = True
        if self._worker is not None:
            with suppress(OSError):
                self._worker.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, which ends both processes. A process forked from the owner only closes its copies."""
        mine = self.owner == os.getpid()
        for end in (self._worker, self._control):
            if end is not None:
                if mine:
                    with suppress(OSError):  # the other end is closed already
                        end.shutdown(socket.SHUT_RDWR)  # copies in forked processes must not keep it open
                end.close()
        if mine:
            self._process.wait()
        else:
            self._process.returncode = 0  # not our child to wait for
