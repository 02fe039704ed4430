"""Ending reads that nobody waits for any more, and only those: a decoder between two reads is left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """The read was cancelled. Nothing is wrong with its file."""


class Cancellation:
    """What several reads are done for. `cancel` ends those under way and lets none begin."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: list[Callable[[], None]] = []
        self._cancelled = False

    def cancel(self) -> None:
        """From any thread. What is under way has been interrupted when this returns."""
        with self._lock:
            self._cancelled = True
            for interrupt in self._under_way:
                interrupt()

    def check(self) -> None:
        """Raise Cancelled, if it was."""
        if self._cancelled:
            raise Cancelled

    @contextmanager
    def covering(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """While the body runs, `cancel` calls `interrupt`; before and after it never does. Raises Cancelled."""
        with self._lock:
            self.check()
            self._under_way.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(interrupt)
