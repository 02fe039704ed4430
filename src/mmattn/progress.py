"""Progress of long work with an estimate: a live bar on a terminal, plain lines elsewhere. It writes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_INTERVAL_S = 5.0


class Progress:
    """`with Progress("decoding", total) as progress: progress.at(done)`. Work that is over at once prints nothing."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._started = time.monotonic()
        self._printed = self._started
        self._bar = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=False)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._bar is not None:
            self._bar.stop()
        elif time.monotonic() - self._started >= PLAIN_INTERVAL_S and kind is None:
            print(
                f"{self.title}: {self.done}/{self.total} in {time.monotonic() - self._started:.0f} s", file=sys.stderr
            )

    def at(self, done: int, note: str = "") -> None:
        """Say how many of the total are done."""
        self.done = done
        title = f"{self.title} {note}".rstrip()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=title)
            return
        now = time.monotonic()
        if done and now - self._printed >= PLAIN_INTERVAL_S and done < self.total:
            self._printed = now
            left = (now - self._started) / done * (self.total - done)
            print(f"{title}: {done}/{self.total}, about {left:.0f} s left", file=sys.stderr, flush=True)
