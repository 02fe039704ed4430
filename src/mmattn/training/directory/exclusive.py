"""The lock of a run directory: one training process at a time, on any host. No torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.process.lease import Lease

LEASE = ".lease"  # in a run directory, or in a sweep's


@contextmanager
def exclusive(folder: Path, *, wait_s: float = 0.0) -> Iterator[Lease]:
    """Hold the lock of `folder` while the body runs. `wait_s`: how long to wait for a holder known to have ended.

    Raises UsageError, naming the holder, where another process has it.
    """
    lease = Lease(folder / LEASE)
    until = time.monotonic() + wait_s
    try:
        while not lease.take():
            if time.monotonic() >= until:
                raise _taken(folder, lease)
            time.sleep(1.0)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    with lease:
        yield lease


def check_free(folder: Path) -> None:
    """Raises UsageError, naming the holder, where a process trains in `folder`."""
    if (lease := Lease(folder / LEASE)).is_held():
        raise _taken(folder, lease)


def _taken(folder: Path, lease: Lease) -> UsageError:
    return UsageError(
        f"{folder}: another process trains here: {lease.holder()}; wait for it, stop it, or choose "
        f"another folder (if it has died, the folder is free {lease.stale_s:.0f} s after its last sign of life)"
    )
