"""The signals that stop training, and how a process ends on a second one. Needs no torch."""

from __future__ import annotations

import os
import select
import signal
import threading
import time

ENDING = {signal.SIGINT, signal.SIGTERM}


APART_S = 1.0  # closer together they are one: a terminal's Ctrl-C and the same passed on by a launcher


END_S = 10.0  # for a process to end by itself


PIPE = "MMATTN_LAUNCHER"  # the environment's name for the pipe that ends when a worker's launcher has gone


def stop_signals() -> tuple[signal.Signals, ...]:
    """What asks training to save and stop. Slurm's warning (--signal=USR1) counts only in a job of it."""
    always = (signal.SIGINT, signal.SIGTERM)
    return (*always, signal.SIGUSR1) if "SLURM_JOB_ID" in os.environ else always


def end_on_second(reading: int) -> None:
    """End this process some time after a second signal, for whatever its main thread waits, in Python or not."""
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
    """Whether the pipe ends before that time, because training has; what it holds is passed over."""
    while (left := until - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0] and not os.read(reading, 1):
            return True
    return False


def stop_without(launcher: int) -> None:
    """As if SIGTERM had come once, when whoever holds the other end of the pipe `launcher` is gone."""

    def wait() -> None:
        os.read(launcher, 1)  # nothing is ever written
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="launcher", daemon=True).start()
