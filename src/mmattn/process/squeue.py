"""Jobs in Slurm's queue: which are waiting or running, and why some do not start.

Uses squeue. sacct, which submitit uses, needs accounting, and many clusters have none.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

# squeue's reasons for jobs that wait until somebody changes the request or the cluster begin with one of these,
_NEVER = tuple(
    "Partition BadConstraints AccountNotAllowed InvalidAccount InvalidQOS QOSNotAllowed ReqNodeNotAvail JobHeld".split()
)
# or are limits of one job or of all the jobs of an account, which may be below what one job asks for.
_LIMITS = ("Assoc", "QOS", "MaxMemPerLimit", "MaxCpuPerAccount", "MaxGRESPerAccount")


@dataclass(frozen=True)
class Queued:
    """`tasks`: ids such as "12_0" that wait or run. `reasons`: why some of them will not start without a change."""

    tasks: frozenset[str]
    reasons: frozenset[str]


def queued(tasks: Iterable[str]) -> Queued | None:
    """Look up jobs by their task ids; None where Slurm does not answer."""
    jobs = ",".join(sorted({task.partition("_")[0] for task in tasks}))
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={jobs}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode and "Invalid job id" not in answer.stderr:  # which it prints for jobs that ended a while ago
        return None
    rows = [line.strip().split("|") for line in answer.stdout.splitlines() if line.count("|") == 2]
    waiting = {reason for _, state, reason in rows if state == "PENDING"}
    return Queued(
        frozenset(task for task, _, _ in rows),
        frozenset(reason for reason in waiting if reason.startswith((*_NEVER, *_LIMITS))),
    )


def explain(reason: str) -> str:
    """What one of `Queued.reasons` means for whoever submitted the job."""
    if reason.startswith(_NEVER):
        return f"wait for {reason} (squeue) and start only when the request or the cluster changes"
    return (
        f"wait for {reason} (squeue), a limit of the account: they start when its other jobs end, or never if one "
        "alone exceeds the limit"
    )
