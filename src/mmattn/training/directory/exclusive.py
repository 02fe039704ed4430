"""One trainer for a run directory, on whatever host: who comes second is refused. Needs no torch."""

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
    """While the body runs nobody else trains in `folder`. `wait_s`: for a holder that is known to have ended.

    Raises UsageError, naming who does.
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
    """Raises UsageError, naming who does, where somebody trains in `folder`."""
    if (lease := Lease(folder / LEASE)).is_held():
        raise _taken(folder, lease)


def _taken(folder: Path, lease: Lease) -> UsageError:
    return UsageError(
        f"{folder}: another process trains here: {lease.holder()}; wait for it, stop it, or choose "
        f"another folder (if it is dead, this is free {lease.stale_s:.0f} s after its last sign of life)"
    )
