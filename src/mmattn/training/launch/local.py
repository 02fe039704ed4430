"""From a composed config to trained weights: in this process, on this machine's devices, or on a cluster.

Workers are started on the frozen run directory, so a command line is parsed once and never again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from mmattn.config.compose import Config
from mmattn.data.load.splits import SplitData
from mmattn.errors import MmattnError, Stopped, UsageError
from mmattn.model import resolved
from mmattn.process.openmp import SHORT_SPIN
from mmattn.training.checkpoints.atomic import BEFORE, LAST
from mmattn.training.launch.launcher import Launcher, launcher_of
from mmattn.training.launch.port import free_port
from mmattn.training.launch.signals import APART_S, END_S, PIPE, stop_signals
from mmattn.training.run.alone import alone
from mmattn.training.run.directory import check_machine, create_run, on_other_machine, read_config

GRACE_S = 30.0  # how long the others may take to end after one process has stopped
STOPPED = (130, 138, 143)  # exit codes of processes that were asked to stop and did


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


def launch(config: Config, changes: Sequence[str] = ()) -> Path:
    """Train what `mmattn train` asked for; returns the run directory.

    `changes`: the overrides beside resume=, which may say where a run goes on but not what it is.
    """
    if config["resume"]:
        check_machine(changes)
        run = Path(str(config["resume"]))
        joins = launcher_of(read_config(run)).nodes > 1  # this node one that holds the run already, maybe
        with nullcontext() if joins else alone(run):  # its config is not to change under who trains
            frozen, data = on_other_machine(run, config, changes), None
    else:
        run, data = prepare(config)
        frozen = read_config(run)
    launcher_of(frozen).start(run, frozen, data)
    return run


def prepare(config: Config) -> tuple[Path, SplitData]:
    """Check all that the run needs, then make its directory."""
    from mmattn.data.features.source import with_frozen_encoders
    from mmattn.training.run.train import check

    config = with_frozen_encoders(with_devices(config))
    data, model = check(config)
    weights = sum(weight.numel() for weight in model.parameters())
    return create_run(resolved(config, model), weights), data


def with_devices(config: Config) -> Config:
    """trainer.devices=0 written out: one for each GPU of this machine, one where there is none."""
    if config["trainer"]["devices"]:
        return config
    if config["launcher"]["_target_"].endswith("Slurm"):
        raise UsageError("trainer.devices=0: what a node of the cluster has is not known here; set trainer.devices=N")
    import torch

    gpus = torch.cuda.device_count() if config["trainer"]["accelerator"] != "cpu" else 0
    return {**config, "trainer": {**config["trainer"], "devices": max(1, gpus)}}


def _spawn(run: Path, devices: int) -> None:
    """One worker a device on this machine. When one fails all stop; the first failure is the run's."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    ends, held = os.pipe()  # this process holds the other end for as long as it is there
    environment = {**SHORT_SPIN, **os.environ, **rendezvous, "LOCAL_WORLD_SIZE": str(devices), PIPE: str(ends)}
    command = [sys.executable, "-P", "-m", "mmattn.training.worker", str(run)]
    # A session of their own: Ctrl-C reaches this process alone, which passes it on once.
    workers = [
        subprocess.Popen(
            command, env={**environment, "LOCAL_RANK": str(rank)}, start_new_session=True, pass_fds=(ends,)
        )
        for rank in range(devices)
    ]

    asked: list[float] = []  # when a signal was passed on

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(time.monotonic())
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in stop_signals()}
    try:
        code = _wait(workers, asked)
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
        error = MmattnError(f"{run}: a worker process ended with exit code {code}; {_what_now(run, code)}")
        error.exit_code = 2 if code == 2 else 1
        raise error


def stopped_run(run: Path, code: int) -> Stopped:
    stopped = Stopped(f"stopped; {_resume_hint(run) or 'before the first checkpoint'}")
    stopped.exit_code = code
    return stopped


def _resume_hint(run: Path) -> str:
    kept = (run / LAST).exists() or (run / BEFORE).exists()
    return f"go on with: mmattn train resume={run}" if kept else ""


def _what_now(run: Path, code: int) -> str:
    """A process that a signal ended had nothing to say."""
    killed = code > 128
    said = f"signal {code - 128} ended it (was there memory enough?)" if killed else "its message is above"
    return "; ".join([said, *([hint] if killed and (hint := _resume_hint(run)) else [])])


def _wait(workers: list[subprocess.Popen], asked: list[float]) -> int:
    """The exit code of the first worker that failed, or 0.

    A first signal may take as long as a step and a checkpoint do; after a second, or when one has failed, workers that
    do not end in time are killed.
    """
    failed, since = 0, 0.0
    while None in [worker.poll() for worker in workers]:  # all of them, so that all that ended are known
        time.sleep(0.1)
        codes = [_exit_code(worker) for worker in workers if worker.returncode]
        if codes and not failed:  # one that was killed is the cause of the others' losing it
            killed = [code for code in codes if code > 128 and code not in STOPPED]
            failed, since = (killed or codes)[0], time.monotonic()
        pressed = asked and asked[-1] - asked[0] > APART_S and time.monotonic() - asked[-1] > END_S + 5
        if pressed or (failed and time.monotonic() - since > (GRACE_S if failed in STOPPED else 2.0)):
            for worker in workers:
                worker.kill()
    return failed or next((_exit_code(worker) for worker in workers if worker.returncode), 0)


def _exit_code(worker: subprocess.Popen) -> int:
    """As a shell gives it: 128 + the signal for a process that a signal ended before it could answer."""
    return 128 - worker.returncode if worker.returncode < 0 else worker.returncode
