"""launcher=local: the processes of a run on this machine's devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from mmattn.config.compose import Config
from mmattn.data.load.splits import SplitData
from mmattn.errors import MmattnError
from mmattn.process.openmp import SHORT_SPIN
from mmattn.process.signals import APART_S, END_S, PIPE, stop_signals
from mmattn.training.distributed.launcher import Launcher
from mmattn.training.launch.outcome import STOPPED, stopped_run, what_now
from mmattn.training.launch.port import free_port

GRACE_S = 30.0  # the other processes may take to end after one has stopped


@dataclass(frozen=True)
class Local(Launcher):
    """All processes on this machine."""

    nodes: int = field(default=1, init=False)

    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        devices = config["trainer"]["devices"]
        if devices == 1:
            from mmattn.training.run.train import train

            train(run, data)
        else:
            if data is not None:
                data.close()
            _spawn(run, devices)

    def environment(self) -> ClusterEnvironment:
        return LightningEnvironment()


def _spawn(run: Path, devices: int) -> None:
    """Start one worker for each device of this machine. When one fails all stop, and the first failure is reported."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    ends, held = os.pipe()  # closes for the workers when this process ends
    environment = {**SHORT_SPIN, **os.environ, **rendezvous, "LOCAL_WORLD_SIZE": str(devices), PIPE: str(ends)}
    command = [sys.executable, "-P", "-m", "mmattn.training.worker", str(run)]
    # In a session of their own, so that Ctrl-C reaches only this process, which forwards it once.
    workers = [
        subprocess.Popen(
            command, env={**environment, "LOCAL_RANK": str(rank)}, start_new_session=True, pass_fds=(ends,)
        )
        for rank in range(devices)
    ]

    signalled: list[float] = []  # times at which a signal was forwarded

    def forward(number: int, frame: FrameType | None) -> None:
        signalled.append(time.monotonic())
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in stop_signals()}
    try:
        code = _wait(workers, signalled)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
        for end in (ends, held):
            os.close(end)
    if code in STOPPED:
        raise stopped_run(run, code)
    if code:
        error = MmattnError(f"{run}: a worker process ended with exit code {code}; {what_now(run, code)}")
        error.exit_code = 2 if code == 2 else 1
        raise error


def _wait(workers: list[subprocess.Popen], signalled: list[float]) -> int:
    """The exit code of the worker that failed, or 0.

    After a first signal workers may take as long as a step and a checkpoint; after a second, or when one worker has
    failed, those that do not end in time are killed.
    """
    failed, since, killed = 0, 0.0, False
    while None in [worker.poll() for worker in workers]:  # polls all of them, so that all that ended are known
        time.sleep(0.1)
        if not killed and (found := _failure(workers)):
            failed, since = found, since or time.monotonic()
        twice = signalled and signalled[-1] - signalled[0] > APART_S and time.monotonic() - signalled[-1] > END_S + 5
        if twice or (failed and time.monotonic() - since > (GRACE_S if failed in STOPPED else 2.0)):
            killed = True
            for worker in workers:
                worker.kill()
    return failed if killed and failed else _failure(workers)


def _failure(workers: list[subprocess.Popen]) -> int:
    """The exit code that explains the others: those that lose a killed or stopped worker's connection fail, too."""
    codes = [_exit_code(worker) for worker in workers if worker.returncode]
    by_signal = [code for code in codes if code > 128 and code not in STOPPED]
    return next(iter((*by_signal, *(code for code in codes if code in STOPPED), *codes)), 0)


def _exit_code(worker: subprocess.Popen) -> int:
    """As a shell reports it: 128 + the signal for a process that a signal killed."""
    return 128 - worker.returncode if worker.returncode < 0 else worker.returncode
