"""Read clips with several threads. If isolated, each has its own decoding process: a crash costs one file."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mmattn.media.isolate.cancel import Cancellation
from mmattn.media.isolate.reader import IsolatedReader
from mmattn.media.read.decode import read_request
from mmattn.media.read.request import Request
from mmattn.media.read.windows.iterate import decode_windows
from mmattn.media.read.windows.layout import Windows
from mmattn.media.survey.passes import survey
from mmattn.media.survey.record import Survey
from mmattn.media.write.bundle import read_bundle
from mmattn.process.openmp import cores
from mmattn.types import ByteRange, Clip

Given = TypeVar("Given")
Result = TypeVar("Result")
AHEAD = 4  # items in progress for each thread


class ClipReader:
    """`reader(media, request)` -> Clip, in any thread or forked process. Raises MediaError.

    `isolated`: decode in a process that may crash or hang (see IsolatedReader); else in this one. `deadline_s`: the
    time for one file. `threads`: used by `map`; 0 = the machine's cores, divided among the run's processes. `bundles`:
    the media are those of shards (see media.write.bundle). `torchcodec`: the device on which torchcodec decodes video,
    always in this process; None: PyAV does. `beneath`: see source.opened; isolated only.
    """

    def __init__(
        self,
        *,
        isolated: bool = True,
        deadline_s: float = 60.0,
        threads: int = 0,
        bundles: bool = False,
        torchcodec: str | None = None,
        follow_symlinks: bool = True,
        beneath: Path | None = None,
    ) -> None:
        self.torchcodec = torchcodec
        self.follow_symlinks = follow_symlinks
        self.beneath = beneath
        self.isolated = isolated
        self.bundles = bundles
        self.deadline_s = deadline_s
        self.threads = threads or max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._here = threading.local()
        self._opened: list[IsolatedReader] = []
        self._pools: list[ThreadPoolExecutor] = []  # one at most
        self._all = Cancellation()  # of reads outside of `map`; each call of `map` has its own
        self._calls = [self._all]
        self._end = weakref.finalize(self, _close, self._owner, self._opened, self._pools, self._calls)

    def close(self) -> None:
        """End reads in progress, threads and decoding processes. The reader can be used again and starts new ones."""
        self._end()
        self._reset()

    def __call__(self, media: Path | ByteRange, request: Request) -> Clip:
        if self.bundles:
            if self.isolated:
                return self._worker().bundle(media, request)
            return read_bundle(request, media, deadline_s=self.deadline_s, follow_symlinks=self.follow_symlinks)
        if self.torchcodec is not None:
            from mmattn.media.read.torchcodec import decode_with_torchcodec

            return decode_with_torchcodec(
                request, media, deadline_s=self.deadline_s, follow_symlinks=self.follow_symlinks, device=self.torchcodec
            ).clip()
        if not self.isolated:
            return read_request(request, media, deadline_s=self.deadline_s, follow_symlinks=self.follow_symlinks)
        return self._worker().read(media, request)

    def header(self, media: Path | ByteRange) -> Survey:
        """A survey of the file's header. Raises MediaError."""
        if not self.isolated:
            return survey(media, "header", deadline_s=self.deadline_s, follow_symlinks=self.follow_symlinks)
        return self._worker().survey(media, "header")

    def windows(self, media: Path | ByteRange, windows: Windows) -> Iterator[Clip]:
        """The whole file in memory for little more than one window; see iter_windows. `deadline_s` is for each window.

        Exhaust or close the iterator before this thread reads anything else. Raises MediaError.
        """
        if self.isolated:
            return self._worker().windows(media, windows)
        decoded = decode_windows(windows, media, None, self.deadline_s, self.follow_symlinks)
        return (window.clip() for window in decoded)

    def _worker(self) -> IsolatedReader:
        """The decoding process of this thread."""
        if self._owner != os.getpid():
            self.close()  # forked: these are copies of the parent's
            self.threads = 1
        if not hasattr(self._here, "reader"):
            how = {"follow_symlinks": self.follow_symlinks, "beneath": self.beneath}
            self._here.reader = IsolatedReader(deadline_s=self.deadline_s, **how)
            self._opened.append(self._here.reader)
        self._here.reader.cancellation = getattr(self._here, "call", self._all)
        return self._here.reader

    def map(self, function: Callable[[Given], Result], items: Iterable[Given], ahead: int = 0) -> Iterator[Result]:
        """Apply `function` to each item with several threads; the results are in order, and few wait for a slow one.

        `ahead`: items in progress while the caller works on another, at least 4 for each thread. A forked process (a
        loader's worker) uses one thread.
        """
        if self.threads == 1 or self._owner != os.getpid():
            yield from map(function, items)
            return
        if not self._pools:
            self._pools.append(ThreadPoolExecutor(self.threads, "read"))
        waiting: deque[Future[Result]] = deque()
        pool, calls, call = self._pools[0], self._calls, Cancellation()  # close() gives the reader new ones

        def run(item: Given) -> Result:
            call.check()
            self._here.call = call
            return function(item)

        calls.append(call)
        try:
            for item in items:
                waiting.append(pool.submit(run, item))
                if len(waiting) >= max(ahead, AHEAD * self.threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller may stop early, by Ctrl-C or an error
            for future in waiting:
                future.cancel()
            call.cancel()
            calls.remove(call)

    def __getstate__(self) -> dict[str, Any]:
        names = ("isolated", "deadline_s", "threads", "bundles", "torchcodec", "follow_symlinks", "beneath")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _close(
    owner: int, readers: list[IsolatedReader], pools: list[ThreadPoolExecutor], calls: list[Cancellation]
) -> None:
    """A process forked from the owner has copies of the readers and none of the threads."""
    if owner == os.getpid():
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for call in list(calls):
            call.cancel()
        for pool in pools:
            pool.shutdown()
    while readers:
        readers.pop().close()
