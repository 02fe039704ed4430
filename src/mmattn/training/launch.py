"""From a composed config to trained weights: in this process, or as one process for each device.

Workers are started on the frozen run directory, so a command line is parsed once and never again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from mmattn.config import Config
from mmattn.errors import MmattnError, Stopped
from mmattn.model import resolved
from mmattn.training.callbacks import LAST
from mmattn.training.rundir import create_run, read_config

GRACE_S = 30.0  # how long the others may take to stop after one process has ended badly


def launch(config: Config) -> Path:
    """Train what `mmattn train` asked for; returns the run directory."""
    from mmattn.data.features import with_frozen_encoders
    from mmattn.training.run import check, train

    if config["resume"]:
        run = Path(str(config["resume"]))
        config = read_config(run)
        data = None
    else:
        config = with_frozen_encoders(config)
        data, model = check(config)
        run = create_run(resolved(config, model))
    devices = config["trainer"]["devices"]
    if devices == 1:
        train(run, data)
    else:
        if data is not None:
            data.close()
        _spawn(run, devices)
    return run


def _spawn(run: Path, devices: int) -> None:
    """One worker a device on this machine. When one fails all stop; the first failure is the run's."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
    environment = {**os.environ, **rendezvous, "LOCAL_WORLD_SIZE": str(devices)}
    command = [sys.executable, "-m", "mmattn.training.worker", str(run)]
    # A session of their own: Ctrl-C reaches this process alone, which passes it on once.
    workers = [
        subprocess.Popen(command, env={**environment, "LOCAL_RANK": str(rank)}, start_new_session=True)
        for rank in range(devices)
    ]

    asked: list[float] = []  # when a signal was passed on

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _wait(workers, asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
    if code in (130, 143):
        hint = f"go on with: mmattn train resume={run}" if (run / LAST).is_file() else "before the first checkpoint"
        stopped = Stopped(f"stopped; {hint}")
        stopped.exit_code = code
        raise stopped
    if code:
        error = MmattnError(f"{run}: a worker process ended with exit code {code}; its message is above")
        error.exit_code = 2 if code == 2 else 1
        raise error


def _wait(workers: list[subprocess.Popen], asked: list[float]) -> int:
    """The exit code of the first worker that failed, or 0. Workers that do not stop in time are killed."""
    failed, since = 0, 0.0
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.1)
        codes = [_exit_code(worker) for worker in workers if worker.returncode]
        if codes and not failed:
            failed, since = codes[0], time.monotonic()
        late = asked and time.monotonic() - asked[0] > GRACE_S
        if late or (failed and time.monotonic() - since > (GRACE_S if failed in (130, 143) else 2.0)):
            for worker in workers:
                worker.kill()
    return failed or next((_exit_code(worker) for worker in workers if worker.returncode), 0)


def _exit_code(worker: subprocess.Popen) -> int:
    """As a shell gives it: 128 + the signal for a process that a signal ended before it could answer."""
    return 128 - worker.returncode if worker.returncode < 0 else worker.returncode


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
