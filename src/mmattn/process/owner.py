"""Which process this is, in words that others can check: whether the one that wrote them is gone for certain."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe_self() -> dict[str, Any]:
    pid = os.getpid()
    return {
        **{"pid": pid, "started": _started(pid), "host": socket.gethostname(), "place": _place(), "since": time.time()},
        **{"job": _job(), "restart": _restart()},
    }


def _place() -> str | None:
    """Where process ids mean the same: one boot of one machine, one namespace of processes (containers have others)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When the process began, so that another that got its number is not taken for it; None where that is hidden."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "dead" if fields[0] in (b"Z", b"X") else fields[19].decode()


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Known only where its process could be seen."""
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
    """Slurm ends all of a job before it starts the job again."""
    return bool(owner.get("job")) and owner.get("job") == _job() and _restart() > owner.get("restart", 0)
