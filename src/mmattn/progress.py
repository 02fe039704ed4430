"""Progress of long work on one line, with rate, estimate and failures: a live bar on a terminal, plain lines elsewhere.

It writes to stderr.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_INTERVAL_S = 5.0


class Progress:
    """`with Progress("decoding", total) as progress: progress.at(done)`. Work that ends at once prints nothing.

    `begun`: how many were done before the start; they do not count for the rate.
    """

    def __init__(self, title: str, total: int, begun: int = 0) -> None:
        self.title = title
        self._title = title
        self.total = total
        self.begun = self.done = begun
        self._started = time.monotonic()
        self._printed = self._started
        self._bar = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            rate = TextColumn("{task.fields[rate]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=False)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.begun, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif time.monotonic() - self._started >= PLAIN_INTERVAL_S and kind is None:
            took = time.monotonic() - self._started
            print(f"{self._title}: {self.done}/{self.total} in {took:.0f} s, {self._rate(took):.3g}/s", file=sys.stderr)

    def _rate(self, took: float) -> float:
        """Per second, of what was done in `took` s."""
        return (self.done - self.begun) / took

    def at(self, done: int, note: str = "", *, failed: int = 0) -> None:
        """Report how many of the total are done, and how many of these failed."""
        self.done = done
        self._title = f"{self.title} {note}".rstrip() + (f" ({failed} failed)" if failed else "")
        now = time.monotonic()
        took = now - self._started
        if self._bar is not None:
            rate = f"{self._rate(took):.3g}/s" if done > self.begun and took else ""
            self._bar.update(self._task, completed=done, description=self._title, rate=rate)
        elif done > self.begun and now - self._printed >= PLAIN_INTERVAL_S and done < self.total:
            self._printed = now
            left = f"{self._rate(took):.3g}/s, about {(self.total - done) / self._rate(took):.0f} s left"
            print(f"{self._title}: {done}/{self.total}, {left}", file=sys.stderr, flush=True)


def log(text: str) -> None:
    """Print a line for people to stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)
