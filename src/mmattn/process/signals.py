"""The signals that stop training, and ending a process on a second one. No torch."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

ENDING = {signal.SIGINT, signal.SIGTERM}
APART_S = 1.0  # signals closer together count as one: a terminal's Ctrl-C, and the same one forwarded by a launcher
END_S = 10.0  # a process may take to end after a second signal
PIPE = "MMATTN_LAUNCHER"  # environment variable: the pipe that closes when a worker's launcher ends


def stop_signals() -> tuple[signal.Signals, ...]:
    """Signals on which training saves and stops. Slurm's warning (--signal=USR1) counts only inside a Slurm job."""
    always = (signal.SIGINT, signal.SIGTERM)
    return (*always, signal.SIGUSR1) if "SLURM_JOB_ID" in os.environ else always


def end_on_second(reading: int) -> None:
    """End this process `END_S` after a second signal, whatever its main thread is waiting for, in Python or not."""
    first = 0.0
    while number := os.read(reading, 1):
        now = time.monotonic()
        if number[0] in ENDING and first and now - first > APART_S:
            if not _closes(reading, now + END_S):
                os._exit(128 + number[0])
            break
        if number[0] in ENDING:
            first = first or now
    os.close(reading)


def _closes(reading: int, until: float) -> bool:
    """Whether the pipe closes before that time, because training ended; its content is ignored."""
    while (left := until - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0] and not os.read(reading, 1):
            return True
    return False


def stop_without(launcher: int) -> None:
    """Send this process SIGTERM once when the process at the other end of the pipe `launcher` ends."""

    def wait() -> None:
        os.read(launcher, 1)  # nothing is ever written
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="launcher", daemon=True).start()
