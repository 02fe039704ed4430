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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from mmattn.errors import MmattnError, Stopped
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import Orders, hopeless
from mmattn.process.openmp import SHORT_SPIN
from mmattn.progress import Progress

_LOOK_S = 1.0  # how often shards that others hold are looked at


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


def run_local(
    job: Job, shards: Sequence[int], command: Sequence[str], devices: Sequence[str], threads: int, wait: bool = True
) -> None:
    """Do `shards` with a process for each of `devices`, which `command` followed by the device starts (see worker).

    `threads`: of the processor, for each. `wait`: until shards that other commands work on are done as well; no process
    is kept for that. Raises MmattnError where work cannot go on. Whatever ends it, what is answered is kept.
    """
    total = sum(job.count(shard) - job.done_count(shard) for shard in shards)
    with Progress("predicting", total) as progress:
        _Driver(job, shards, command, threads, progress).run(devices[: len(shards)], wait)


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
        self.free: list[str] = []  # devices without a process
        self.looked = time.monotonic()

    def run(self, devices: Sequence[str], wait: bool) -> None:
        self.free = list(devices)
        try:
            while self.orders.left and (wait or not self.orders.only_held):
                self._staff()
                for key, _ in self.selector.select(_LOOK_S):
                    worker: _Worker = key.data
                    messages = worker.hear()
                    if messages is None:
                        self._died(worker)
                    for message in messages or ():
                        self._handle(worker, message)
                if time.monotonic() - self.looked >= _LOOK_S:
                    self.orders.look_again()
                    self.looked = time.monotonic()
            if not self.orders.left:
                self.job.tidy()
        finally:
            for worker in self.workers:
                worker.end()
            self.selector.close()

    def _staff(self) -> None:
        """Work for the idle, processes for work that waits, and none where others do all that is left."""
        for worker in self.workers:
            if worker.ahead is not None and worker.shard is None and (order := self.orders.next()):
                worker.order(*order)
        starting = sum(worker.ahead is None for worker in self.workers)
        while self.free and self.orders.waiting > starting:
            self._start(self.free.pop(0))
            starting += 1
        if self.orders.only_held:
            for worker in list(self.workers):
                self._dismiss(worker)

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

    def _dismiss(self, worker: _Worker) -> int:
        """End a process; returns its exit code."""
        self.selector.unregister(worker.out)
        self.workers.remove(worker)
        self.free.append(worker.device)
        return worker.end()

    def _handle(self, worker: _Worker, message: dict[str, Any]) -> None:
        if "error" in message:
            error = MmattnError(message["error"])
            error.exit_code = message["exit_code"]
            raise error
        if "ahead" in message:
            worker.ahead = message["ahead"]
        elif "alone" in message:
            worker.alone = message["alone"]
        elif "done" in message:
            worker.alone = None
            self.orders.answered()
            self.failed += message["failed"]
            self.progress.at(self.progress.done + 1, failed=self.failed)
        elif "finished" in message:
            worker.shard = None
            self.orders.finished()
        elif "held" in message:
            worker.shard = None
            self.orders.held(message["held"])

    def _died(self, worker: _Worker) -> None:
        """Its shard goes on with another process."""
        code = self._dismiss(worker)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if code >= 0 and worker.ahead is None:
            raise hopeless(self.job, how)
        self.orders.died(how, worker.shard, worker.alone, worker.ahead or 1)


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
