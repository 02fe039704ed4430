"""A real Slurm in a folder of its own, for as long as a test needs it. Nothing in /etc is touched.

Its nodes are services of this machine, each on a port of its own, so several of these may run side by side.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmattn.training.launch.port import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
REQUEUE_S = 5  # how long a job that went back into the queue waits: of a real Slurm, two minutes
MAX_ARRAY = 3
SILENT_S = 10  # after which a node without its service is down: of a real Slurm, five minutes
_CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
AuthInfo=socket={root}/munge.socket,cred_expire={requeue_s}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/ctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/ctld.log
SlurmdLogFile={root}/%n.log
SlurmdTimeout={silent_s}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MaxArraySize={max_array}
MpiDefault=none
JobRequeue=1
KillWait=5
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=ALL MaxTime=10 State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here."""
    if os.name != "posix" or os.geteuid() != 0:
        return "Slurm's services need root"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        return f"no {absent[0]}: apt-get install slurm-wlm munge"
    return None


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Cluster:
    """`environment`: variables that make sbatch and the rest find it. Each of its nodes has `cpus` processors."""

    def __init__(self, root: Path, nodes: int, cpus: int) -> None:
        self.root = root
        self.nodes = [f"n{k}" for k in range(nodes)]
        self.environment = {"SLURM_CONF": str(root / "slurm.conf"), "PATH": _path()}
        host = socket.gethostname()
        lines = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cpus} RealMemory=8000 "
            "State=UNKNOWN"
            for name in self.nodes
        )
        settings = {"root": root, "host": host, "ctld": free_port(), "nodes": lines}
        settings |= {"requeue_s": REQUEUE_S, "silent_s": SILENT_S, "max_array": MAX_ARRAY}
        (root / "slurm.conf").write_text(_CONF.format(**settings))

    def start(self) -> None:
        (self.root / "state").mkdir()
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid"}
        munged = [f"--{option}={self.root / name}" for option, name in names.items()]
        munged += [f"--log-file={self.root / 'munge.log'}", f"--seed-file={self.root / 'munge.seed'}", "--force"]
        self.tell("munged", *munged)
        self.tell("slurmctld", "-f", self.environment["SLURM_CONF"])
        for name in self.nodes:
            self.start_node(name)
        self.until(lambda: set(self.tell("sinfo", "--noheader", "--Node", "--format=%T").split()) == {"idle"})

    def start_node(self, name: str) -> None:
        self.tell("slurmd", "-f", self.environment["SLURM_CONF"], "-N", name)

    def stop_service(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """`name`: of a node, "ctld" or "munge"."""
        with suppress(OSError, ValueError):
            pid = int((self.root / f"{name}.pid").read_text())
            os.kill(pid, number)
            until = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                time.sleep(0.05)

    def stop(self) -> None:
        with suppress(OSError, subprocess.SubprocessError, RuntimeError):
            self.tell("scancel", "--user=root")
            self.until(lambda: not self.jobs(), 30)
        for name in (*self.nodes, "ctld", "munge"):
            self.stop_service(name)

    def tell(self, *command: str) -> str:
        """What a program of Slurm's says."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60, errors="replace"
        ).stdout

    def jobs(self) -> dict[str, str]:
        """State by id of all that wait, run or come to their end; of an array each task."""
        said = self.tell("squeue", "--noheader", "--array", "--format=%i %T")
        return dict(line.split() for line in said.splitlines())

    def until(self, true: Callable[[], object], limit_s: float = 300) -> None:
        limit = time.monotonic() + limit_s
        while not true():
            if time.monotonic() > limit:
                raise RuntimeError(f"Slurm did not come to it: {(self.root / 'ctld.log').read_text()[-3000:]}")
            time.sleep(0.2)


@contextmanager
def cluster(nodes: int = 1) -> Iterator[Cluster]:
    root = Path(tempfile.mkdtemp(prefix="mmattn-slurm-"))  # a socket's path is short
    made = Cluster(root, nodes, cpus=min(2, len(os.sched_getaffinity(0))))
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Environment variables that make sbatch and the rest find it."""
    with cluster() as made:
        yield made.environment
