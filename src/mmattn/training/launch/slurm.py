"""launcher=slurm: one job for a run, or an array of jobs for a sweep, each going on where it was when it comes back."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from mmattn.config import Config
from mmattn.data.manifest.splits import SplitData
from mmattn.errors import MmattnError, UsageError
from mmattn.files import write_atomically
from mmattn.text import counted
from mmattn.training.launch.launcher import Launcher, at_least_one

JOB_FILE = "job.sh"
POINTS_FILE = "points.txt"


@dataclass(frozen=True)
class Slurm(Launcher):
    """`options`: more of sbatch's long options. `warn_s` before its time is up the job saves and is requeued."""

    nodes: int
    cpus: int
    memory_gb: float
    minutes: int
    warn_s: int
    partition: str | None
    parallel: int
    options: Mapping[str, str | int] | None = None
    python: str | None = None

    here: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key in ("nodes", "cpus", "minutes", "parallel", "warn_s"):
            at_least_one(key, getattr(self, key))
        if self.warn_s >= 60 * self.minutes:
            raise UsageError(
                f"launcher.warn_s={self.warn_s}: a job of launcher.minutes={self.minutes} would be warned as it "
                "starts, requeued, and never train"
            )
        for key, value in {"partition": self.partition or "x", **(self.options or {})}.items():
            if not re.fullmatch(r"[a-z][a-z-]*", str(key)) or not re.fullmatch(r"[\w.,:@%+*/=\[\]-]+", str(value)):
                raise UsageError(f"launcher.options: {key}={value!r} is no option of sbatch's with a plain value")

    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        if data is not None:
            data.close()
        job = run / JOB_FILE
        write_atomically(job, self.script(run, config).encode())
        print(f"Slurm job {submit(job)}; its output is {run.absolute()}/slurm-*.out", file=sys.stderr)

    def start_all(self, runs: Sequence[Path], configs: Sequence[Config]) -> bool:
        """All in one array. Raises UsageError where they need different numbers of processes."""
        if len({config["trainer"]["devices"] for config in configs}) > 1:
            raise UsageError("launcher=slurm: an array's tasks are alike; sweep over trainer.devices apart")
        folder = runs[0].parent
        write_atomically(folder / POINTS_FILE, "".join(f"{run.absolute()}\n" for run in runs).encode())
        job = folder / JOB_FILE
        write_atomically(job, self.script(folder, configs[0], points=len(runs)).encode())
        print(
            f"Slurm array {submit(job)} of {counted(len(runs), 'run')}; their output is {folder}/slurm-*.out",
            file=sys.stderr,
        )
        return True

    def environment(self) -> ClusterEnvironment:
        return SLURMEnvironment(auto_requeue=False)  # what Lightning's does would train on

    def describe(self, run: Path, config: Config) -> str:
        return self.script(run, config).rstrip()

    def script(self, folder: Path, config: Config, points: int = 0) -> str:
        """The job file. `points`: of a sweep in `folder`, whose runs POINTS_FILE lists; 0: `folder` is the run."""
        folder = folder.absolute()
        if odd := re.search(r"[\s%\\'\"#]", str(folder)):
            raise UsageError(f"{folder}: a job file can name no output with {odd[0]!r} in its path; choose another")
        devices = config["trainer"]["devices"]
        options: dict[str, str | int] = {
            "job-name": re.sub(r"[^\w.,=+-]", "_", f"mmattn-{folder.name}"),
            "nodes": self.nodes,
            "ntasks-per-node": devices,
            "cpus-per-task": self.cpus,
            "mem": f"{round(self.memory_gb * 1024)}M",
            "time": self.minutes,
            "signal": f"USR1@{self.warn_s}",
            "open-mode": "append",
            "output": f"{folder}/slurm-{'%A_%a' if points else '%j'}.out",
        }
        if config["trainer"]["accelerator"] != "cpu":
            options["gpus-per-node"] = devices
        if self.partition:
            options["partition"] = self.partition
        if points:
            options["array"] = f"0-{points - 1}%{self.parallel}"
        options |= self.options or {}
        run = '"$run"' if points else shlex.quote(str(folder))
        chosen = f'run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(folder / POINTS_FILE))})\n'
        return (
            "#!/bin/bash\n"
            + "".join(f"#SBATCH --{name}={value}\n" for name, value in options.items())
            + "#SBATCH --requeue\n"
            + (chosen if points else "")
            + "exec srun --kill-on-bad-exit=1 "
            + f"{shlex.quote(self.python or sys.executable)} -P -m mmattn.training.worker {run}\n"
        )


def submit(job: Path) -> str:
    """The number that sbatch gave. Raises MmattnError saying what it said."""
    command = ["sbatch", "--parsable", str(job)]
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
