"""Handing job files to Slurm: each run once, lists of runs that never change, and the reason of one that waits."""

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
from mmattn.progress import say

SUBMITTED_FILE = "slurm.json"  # in a run: the job, or the task of an array, that trains it
MAX_ARRAY = 1001  # tasks of an array, unless the cluster says otherwise


def submit(job: Path, *options: str) -> str:
    """The number that sbatch gave. Raises MmattnError saying what it said."""
    command = ["sbatch", "--parsable", *options, str(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise UsageError(
            f"sbatch: not found, so this is no machine of a Slurm cluster; submit it there: {' '.join(command)}"
        ) from None
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise MmattnError(f"sbatch: {said[-1] if said else 'failed'}; the job file is {job}") from None
    return done.stdout.strip().partition(";")[0]


def keep_submitted(tasks: Mapping[Path, str]) -> None:
    """`tasks`: of each run the job "12" or the task "12_0" that trains it."""
    for run, task in tasks.items():
        write_atomically(run / SUBMITTED_FILE, json.dumps({"job": task}).encode())


def in_queue(runs: Sequence[Path]) -> dict[Path, str]:
    """Of runs that wait in Slurm's queue, or that it trains, the job. Raises MmattnError where it does not answer."""
    if not (known := dict(_submitted(runs))):
        return {}
    if (found := queued(known.values())) is None:
        raise MmattnError(
            f"squeue: does not answer, so whether {len(known)} of the runs are in Slurm's queue already is not known; "
            f"try again where it does, or, when they are not, remove {SUBMITTED_FILE} in each of them"
        )
    return {run: task for run, task in known.items() if task in found.tasks}


def _submitted(runs: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for run in runs:
        try:
            yield run, str(json.loads((run / SUBMITTED_FILE).read_text(encoding="utf-8"))["job"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def tell_reason(job: str) -> None:
    """Where what was just submitted cannot start by itself."""
    found = queued([job])
    for reason in sorted(found.reasons) if found else ():
        say(f"the tasks of job {job} {explain(reason)}; scancel {job} takes it back")


def max_array() -> int:
    """How many tasks an array of this cluster may have."""
    command = ["scontrol", "show", "config"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return MAX_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    return max(1, int(found[1])) if found else MAX_ARRAY


def points_file(folder: Path, runs: Sequence[Path]) -> Path:
    """Lists `runs` for the tasks of an array. Its name is of its content, so none is written anew under such tasks."""
    text = "".join(f"{run.absolute()}\n" for run in runs).encode()
    file = folder / f"points-{hashlib.sha256(text).hexdigest()[:12]}.txt"
    write_atomically(file, text)
    return file
