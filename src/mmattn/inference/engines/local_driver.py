"""Runs worker processes on one machine until no shard is left.

A worker that dies costs only time: its shard continues where its journal ends, one entry at a time where one of them
may be the cause. An entry that ends three processes is quarantined.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from mmattn.errors import MmattnError
from mmattn.inference.jobs.job import Job
from mmattn.inference.jobs.scheduling import ShardQueue, no_progress
from mmattn.process.openmp import SHORT_SPIN
from mmattn.progress import Progress

_CHECK_S = 1.0  # from one check of the shards that others hold to the next


@dataclass
class _Worker:
    device: str
    process: subprocess.Popen[bytes]
    shard: int | None = None
    alone: str | None = None  # the entry it works on, if it works on one only
    ahead: int | None = None  # entries it may work on at once; None: it is not ready
    rest: bytes = b""  # of an incomplete message

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages since the last call, None if the process has died."""
        data = os.read(self.out.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def end(self) -> int:
        """Kill the process; returns its exit code."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.wait()

    def start_shard(self, shard: int, alone_until: int) -> None:
        self.shard, self.alone = shard, None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its death is noticed when its output is read
            self.process.stdin.write(json.dumps({"shard": shard, "alone_until": alone_until}).encode() + b"\n")


def run_local(
    job: Job, shards: Sequence[int], command: Sequence[str], devices: Sequence[str], threads: int, wait: bool = True
) -> None:
    """Process `shards` with a worker for each of `devices`, started by `command` followed by the device (see worker).

    `threads`: CPU threads of each. `wait`: also until shards that other commands hold are done; no worker is kept for
    that. Raises MmattnError if work cannot continue. Records made so far are always kept.
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
        self.queue = ShardQueue(job, shards)
        self.failed = 0
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []
        self.free: list[str] = []  # devices without a worker
        self.checked = time.monotonic()

    def run(self, devices: Sequence[str], wait: bool) -> None:
        self.free = list(devices)
        try:
            while self.queue.left and (wait or not self.queue.only_held):
                self._assign()
                for key, _ in self.selector.select(_CHECK_S):
                    worker: _Worker = key.data
                    messages = worker.receive()
                    if messages is None:
                        self._died(worker)
                    for message in messages or ():
                        self._handle(worker, message)
                if time.monotonic() - self.checked >= _CHECK_S:
                    self.queue.check_held()
                    self.checked = time.monotonic()
            if not self.queue.left:
                self.job.tidy()
        finally:
            for worker in self.workers:
                worker.end()
            self.selector.close()

    def _assign(self) -> None:
        """Give shards to idle workers, start workers for waiting shards, and end all if others hold what is left."""
        for worker in self.workers:
            if worker.ahead is not None and worker.shard is None and (order := self.queue.next()):
                worker.start_shard(*order)
        starting = sum(worker.ahead is None for worker in self.workers)
        while self.free and self.queue.waiting > starting:
            self._start(self.free.pop(0))
            starting += 1
        if self.queue.only_held:
            for worker in list(self.workers):
                self._end(worker)

    def _start(self, device: str) -> None:
        process = subprocess.Popen(
            [*self.command, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**SHORT_SPIN, **os.environ, "OMP_NUM_THREADS": str(self.threads)},
            start_new_session=True,  # Ctrl-C goes to the driver alone
        )
        worker = _Worker(device, process)
        self.workers.append(worker)
        self.selector.register(worker.out, selectors.EVENT_READ, worker)

    def _end(self, worker: _Worker) -> int:
        """End a worker; returns its exit code."""
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
            self.queue.progressed()
            self.failed += message["failed"]
            self.progress.at(self.progress.done + 1, failed=self.failed)
        elif "finished" in message:
            worker.shard = None
            self.queue.finished()
        elif "held" in message:
            worker.shard = None
            self.queue.held(message["held"])

    def _died(self, worker: _Worker) -> None:
        """Put the shard of a dead worker back."""
        code = self._end(worker)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        if code >= 0 and worker.ahead is None:
            raise no_progress(self.job, how)
        self.queue.worker_died(how, worker.shard, worker.alone, worker.ahead or 1)
