"""The engine on one machine: processes that each hold the model answer shards until none is left.

A process that dies costs nothing but the time: its shard goes on where its journal ends, one entry at a time where the
culprit must be, and an entry that ends three processes in a row is put aside.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from mmattn.errors import MmattnError, Stopped
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.orders import Orders, hopeless
from mmattn.openmp import SHORT_SPIN
from mmattn.progress import Progress


@dataclass
class _Worker:
    device: str
    process: subprocess.Popen[bytes]
    shard: int | None = None
    alone: str | None = None  # the entry it works on, when it works on one only
    ahead: int | None = None  # entries that may be under way at once; None: it is not ready
    rest: bytes = b""  # of a message that has not come in whole

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def hear(self) -> list[dict[str, Any]] | None:
        """What it has said since, None when it has died."""
        heard = os.read(self.out.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + heard).split(b"\n")
        return [json.loads(line) for line in lines] if heard else None

    def end(self) -> int:
        """Its exit code, once it is gone."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.wait()

    def order(self, shard: int, alone_until: int) -> None:
        self.shard, self.alone = shard, None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its death is noticed where its answers come from
            self.process.stdin.write(json.dumps({"shard": shard, "alone_until": alone_until}).encode() + b"\n")


def run_local(job: Job, shards: Sequence[int], command: Sequence[str], devices: Sequence[str], threads: int) -> None:
    """Do `shards` with a process for each of `devices`, which `command` followed by the device starts (see worker).

    `threads`: of the processor, for each. Raises MmattnError where work cannot go on. SIGINT and SIGTERM end it with
    what is answered kept.
    """
    total = sum(job.count(shard) - job.done_count(shard) for shard in shards)
    with Progress("predicting", total) as progress, stopping():
        _Driver(job, shards, command, threads, progress).run(devices[: len(shards)])


class _Driver:
    def __init__(
        self, job: Job, shards: Sequence[int], command: Sequence[str], threads: int, progress: Progress
    ) -> None:
        self.job = job
        self.command = command
        self.threads = threads
        self.progress = progress
        self.orders = Orders(job, shards)
        self.failed = 0
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []

    def run(self, devices: Sequence[str]) -> None:
        try:
            for device in devices:
                self._start(device)
            while self.orders.left:
                for key, _ in self.selector.select():
                    worker: _Worker = key.data
                    messages = worker.hear()
                    if messages is None:
                        self._bury(worker)
                    for message in messages or ():
                        self._heed(worker, message)
            self.job.tidy()
        finally:
            for worker in self.workers:
                worker.end()
            self.selector.close()

    def _start(self, device: str) -> None:
        process = subprocess.Popen(
            [*self.command, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**SHORT_SPIN, **os.environ, "OMP_NUM_THREADS": str(self.threads)},
            start_new_session=True,  # Ctrl-C is for the driver
        )
        worker = _Worker(device, process)
        self.workers.append(worker)
        self.selector.register(worker.out, selectors.EVENT_READ, worker)

    def _next(self, worker: _Worker) -> None:
        order = self.orders.next()
        if order is None:
            worker.shard = None
        else:
            worker.order(*order)

    def _heed(self, worker: _Worker, message: dict[str, Any]) -> None:
        if "error" in message:
            error = MmattnError(message["error"])
            error.exit_code = message["exit_code"]
            raise error
        if "ahead" in message:
            worker.ahead = message["ahead"]
            self._next(worker)
        elif "alone" in message:
            worker.alone = message["alone"]
        elif "done" in message:
            worker.alone = None
            self.orders.answered()
            self.failed += message["failed"]
            self.progress.at(self.progress.done + 1, failed=self.failed)
        elif "finished" in message:
            self.orders.finished()
            self._next(worker)

    def _bury(self, worker: _Worker) -> None:
        """It has died. Its shard goes on with another process."""
        self.selector.unregister(worker.out)
        self.workers.remove(worker)
        code = worker.end()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if code >= 0 and worker.ahead is None:
            raise hopeless(self.job, how)
        self.orders.died(how, worker.shard, worker.alone, worker.ahead or 1)
        if self.orders.waiting:
            self._start(worker.device)


@contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM ends the body as Ctrl-C does, with its own exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        stopped = Stopped("stopped; the same command goes on")
        stopped.exit_code = 128 + number
        raise stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
