"""A real Slurm of one node in a folder of its own, for as long as a test needs it. Nothing in /etc is touched."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmattn.training.launch.port import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
_CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
AuthInfo=socket={root}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/ctld.pid
SlurmdPidFile={root}/d.pid
SlurmctldLogFile={root}/ctld.log
SlurmdLogFile={root}/d.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here."""
    if os.name != "posix" or os.geteuid() != 0:
        return "Slurm's services need root"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        return f"no {absent[0]}: apt-get install slurm-wlm munge"
    return None


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Environment variables that make sbatch and the rest find it."""
    root = Path(tempfile.mkdtemp(prefix="mmattn-slurm-"))  # a socket's path is short
    conf = root / "slurm.conf"
    cpus = min(2, len(os.sched_getaffinity(0)))
    conf.write_text(_CONF.format(root=root, host=socket.gethostname(), ctld=free_port(), slurmd=free_port(), cpus=cpus))
    for name in ("state", "spool"):
        (root / name).mkdir()
    key = root / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    environment = {"SLURM_CONF": str(conf), "PATH": _path()}
    names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid"}
    munged = [f"--{option}={root / name}" for option, name in names.items()]
    munged += [f"--log-file={root / 'munge.log'}", f"--seed-file={root / 'munge.seed'}", "--force"]
    try:
        for command in (["munged", *munged], ["slurmctld", "-f", str(conf)], ["slurmd", "-f", str(conf)]):
            subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, timeout=60)
        _wait_idle(environment, root)
        yield environment
    finally:
        for name in ("d.pid", "ctld.pid", "munge.pid"):
            with suppress(OSError, ValueError):
                os.kill(int((root / name).read_text()), signal.SIGTERM)
        shutil.rmtree(root, ignore_errors=True)


def _wait_idle(environment: dict[str, str], root: Path) -> None:
    until = time.monotonic() + 120
    command = ["sinfo", "--noheader", "--format=%T"]
    while time.monotonic() < until:
        found = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        if found.stdout.strip() == "idle":
            return
        time.sleep(0.3)
    raise RuntimeError(f"Slurm did not start: {(root / 'ctld.log').read_text()[-2000:]}")
