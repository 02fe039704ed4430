"""Submits jobs to Slurm: each run once, immutable lists of runs for arrays, and why a job waits."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmattn.errors import MmattnError, UsageError
from mmattn.files import write_atomically
from mmattn.process.squeue import explain, queued
from mmattn.progress import log

SUBMITTED_FILE = "slurm.json"  # in a run: the job, or the task of an array, that trains it
MAX_ARRAY = 1001  # tasks of an array, Slurm's default


def submit(job: Path, *options: str) -> str:
    """Submit a job file; returns the job number. Raises MmattnError with sbatch's message."""
    command = ["sbatch", "--parsable", *options, str(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise UsageError(
            f"sbatch: not found; submit the job on a machine of the Slurm cluster: {' '.join(command)}"
        ) from None
    except subprocess.SubprocessError as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise MmattnError(f"sbatch: {lines[-1] if lines else 'failed'}; the job file is {job}") from None
    return done.stdout.strip().partition(";")[0]


def keep_submitted(tasks: Mapping[Path, str]) -> None:
    """Record in each run the job "12" or task "12_0" that trains it."""
    for run, task in tasks.items():
        write_atomically(run / SUBMITTED_FILE, json.dumps({"job": task}).encode())


def in_queue(runs: Sequence[Path]) -> dict[Path, str]:
    """The jobs of those `runs` that wait or train. Raises MmattnError where Slurm does not answer."""
    if not (known := dict(_submitted(runs))):
        return {}
    if (found := queued(known.values())) is None:
        raise MmattnError(
            f"squeue does not answer, so it is not known whether {len(known)} of the runs are in Slurm's queue; "
            f"try again when it does, or, if they are not, remove {SUBMITTED_FILE} in each of them"
        )
    return {run: task for run, task in known.items() if task in found.tasks}


def _submitted(runs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for run in runs:
        try:
            yield run, str(json.loads((run / SUBMITTED_FILE).read_text(encoding="utf-8"))["job"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def log_reason(job: str) -> None:
    """Print why the submitted job cannot start, where that is so."""
    found = queued([job])
    for reason in sorted(found.reasons) if found else ():
        log(f"the tasks of job {job} {explain(reason)}; scancel {job} cancels it")


def max_array() -> int:
    """MaxArraySize of this cluster."""
    command = ["scontrol", "show", "config"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return MAX_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    return max(1, int(found[1])) if found else MAX_ARRAY


def points_file(folder: Path, runs: Sequence[Path]) -> Path:
    """Write the list of `runs` for the tasks of an array. Named by its content, so lists never change."""
    text = "".join(f"{run.absolute()}\n" for run in runs).encode()
    file = folder / f"points-{hashlib.sha256(text).hexdigest()[:12]}.txt"
    write_atomically(file, text)
    return file
