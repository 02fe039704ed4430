"""Cancel reads whose result is no longer needed; a decoder between two reads is not affected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """The read was cancelled; its file is not at fault."""


class Cancellation:
    """Cancels a group of reads: `cancel` interrupts those in progress and prevents later ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Callable[[], None]] = []
        self._cancelled = False

    def cancel(self) -> None:
        """Interrupt all reads in progress, from any thread; they have been interrupted when this returns."""
        with self._lock:
            self._cancelled = True
            for interrupt in self._running:
                interrupt()

    def check(self) -> None:
        """Raise Cancelled after `cancel`."""
        if self._cancelled:
            raise Cancelled

    @contextmanager
    def covering(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """While the body runs, `cancel` calls `interrupt`; never before or after. Raises Cancelled."""
        with self._lock:
            self.check()
            self._running.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(interrupt)
