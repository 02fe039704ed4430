"""What Slurm's queue says of jobs: which of them will still run, and why some never start.

It is asked by squeue. sacct, which submitit asks, needs accounting, and many clusters have none.
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
    """`tasks`: ids such as "12_0" of those that wait or run. `reasons`: why some of them do not start by themselves."""

    tasks: frozenset[str]
    reasons: frozenset[str]


def queued(tasks: Iterable[str]) -> Queued | None:
    """None where Slurm does not answer."""
    jobs = ",".join(sorted({task.partition("_")[0] for task in tasks}))
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={jobs}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if said.returncode and "Invalid job id" not in said.stderr:  # which it says of jobs that ended a while ago
        return None
    rows = [line.strip().split("|") for line in said.stdout.splitlines() if line.count("|") == 2]
    waiting = {reason for _, state, reason in rows if state == "PENDING"}
    return Queued(
        frozenset(task for task, _, _ in rows),
        frozenset(reason for reason in waiting if reason.startswith((*_NEVER, *_LIMITS))),
    )


def explain(reason: str) -> str:
    """What one of `Queued.reasons` means for who waits."""
    if reason.startswith(_NEVER):
        return f"wait for {reason} (squeue), which ends only when the request or cluster changes"
    return (
        f"wait for {reason} (squeue), a limit of the account: they start when its other jobs end, and never where one "
        "alone asks for more"
    )
