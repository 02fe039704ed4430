"""A record that identifies a process, by which other processes can check whether it has ended."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe_self() -> dict[str, Any]:
    """The record of this process: pid, start time, host, pid namespace and Slurm job."""
    pid = os.getpid()
    return {
        **{"pid": pid, "started": _started(pid), "host": socket.gethostname(), "place": _place(), "since": time.time()},
        **{"job": _job(), "restart": _restart()},
    }


def _place() -> str | None:
    """Identifies where process ids are comparable: one boot of one machine and one pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """The start time of a process, which tells it from a later one with the same id; None where it is hidden."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "dead" if fields[0] in (b"Z", b"X") else fields[19].decode()


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the owner's process has certainly ended; False where this process could not see it."""
    place = _place()
    if place is None or owner.get("place") != place:
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    started = _started(owner["pid"])
    return started is not None and started != owner["started"]


def _job() -> str | None:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{job} {os.environ.get('SLURM_CLUSTER_NAME', '')}".strip() if job else None


def _restart() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def is_requeued(owner: Mapping[str, Any]) -> bool:
    """Whether this is a later start of the owner's Slurm job; Slurm ends all of a job before it restarts it."""
    return bool(owner.get("job")) and owner.get("job") == _job() and _restart() > owner.get("restart", 0)
