"""launcher=slurm: one job for a run, or job arrays for a sweep; requeued jobs continue from their checkpoint."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from mmattn.config.compose import Config
from mmattn.config.folders import CONFIG_DIR
from mmattn.config.targets import TRUST
from mmattn.data.load.splits import SplitData
from mmattn.errors import UsageError
from mmattn.files import write_atomically
from mmattn.progress import log
from mmattn.text import counted
from mmattn.training.checkpoints.atomic import LAST
from mmattn.training.directory.exclusive import exclusive
from mmattn.training.directory.record import weights_of
from mmattn.training.distributed.launcher import Launcher, at_least_one
from mmattn.training.launch.submit import in_queue, keep_submitted, log_reason, max_array, points_file, submit

JOB_FILE = "job.sh"
WARN_S = 120  # for the current step or batch of a validation; Slurm may warn a minute early
WRITE = 50e6  # bytes/s of a checkpoint on a slow shared disk
ADAM = 3 * 4  # bytes of a checkpoint per parameter
_KEPT = (CONFIG_DIR, TRUST)  # needed on the nodes to build classes from the user's configs
# Ignores a warning before training handles it, which would end the process.
_IGNORE_WARNING = 'sh -c \'trap "" USR1; exec "$@"\' sh'


@dataclass(frozen=True)
class Slurm(Launcher):
    """`options`, `srun`: further long options of sbatch and srun; `setup`: lines of the job before the program.

    The job saves and is requeued `warn_s` before its time is up; None: 120 s plus the time to write a checkpoint.
    """

    nodes: int
    cpus: int
    memory_gb: float
    minutes: int
    warn_s: int | None
    partition: str | None
    parallel: int
    options: Mapping[str, str | int] | None = None
    python: str | None = None
    setup: Sequence[str] | None = None
    srun: Mapping[str, str | int] | None = None

    here: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key in ("nodes", "cpus", "minutes", "parallel", "warn_s"):
            if (value := getattr(self, key)) is not None:
                at_least_one(key, value)
        if self.warn_s and self.warn_s >= 60 * self.minutes:
            raise UsageError(
                f"launcher.warn_s={self.warn_s}: a job of launcher.minutes={self.minutes} would be warned when it "
                "starts, requeued, and never train"
            )
        if isinstance(self.setup, str) or any("\n" in str(line) for line in self.setup or ()):
            raise UsageError("launcher.setup: expected a list of lines, such as ['module load cuda']")
        _check_options("options", "sbatch", {"partition": self.partition or "x", **(self.options or {})})
        _check_options("srun", "srun", self.srun or {})

    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        """Raises UsageError where the run is in Slurm's queue already."""
        if data is not None:
            data.close()
        with exclusive(run):
            if task := in_queue([run]).get(run):
                raise UsageError(f"{run}: Slurm job {task} trains it (squeue --jobs={task}); scancel {task} cancels it")
            job = run / JOB_FILE
            write_atomically(job, self.script(run, config).encode())
            number = submit(job)
            keep_submitted({run: number})
        print(f"Slurm job {number}; its output is {run.absolute()}/slurm-*.out", file=sys.stderr)
        log_reason(number)

    def start_all(self, runs: Sequence[Path], configs: Sequence[Config]) -> bool:
        """Submit the runs that are not in the queue yet, in as many arrays as MaxArraySize requires.

        Raises UsageError where they need different jobs.
        """
        if any(_job_of(config) != _job_of(configs[0]) for config in configs):
            raise UsageError(
                "launcher=slurm: all tasks of an array need the same resources; sweep over trainer.devices, "
                "trainer.accelerator and launcher in separate commands"
            )
        folder = runs[0].parent
        with exclusive(folder):
            waiting = in_queue(runs)
            if waiting:
                log(f"{folder}: {len(waiting)} of {counted(len(runs), 'run')} are in Slurm's queue already")
            todo, most, before = [run for run in runs if run not in waiting], max_array(), ""
            for begin in range(0, len(todo), most):
                before = self._start_array(folder, todo[begin : begin + most], configs[0], before)
        return True

    def _start_array(self, folder: Path, runs: Sequence[Path], config: Config, after: str) -> str:
        """Submit an array; returns its number. It starts after `after` has ended, which keeps `parallel`."""
        points = points_file(folder, runs)
        job = folder / points.name.replace("points", "job").replace(".txt", ".sh")
        write_atomically(job, self.script(folder, config, runs, points).encode())
        number = submit(job, *([f"--dependency=afterany:{after}"] if after else []))
        keep_submitted({run: f"{number}_{k}" for k, run in enumerate(runs)})
        message = f"Slurm array {number} of {counted(len(runs), 'run')}; their output is {folder}/slurm-*.out"
        print(message, file=sys.stderr)
        log_reason(number)
        return number

    def environment(self) -> ClusterEnvironment:
        return SLURMEnvironment(auto_requeue=False)  # Lightning's handler would requeue and keep training

    def describe(self, run: Path, config: Config) -> str:
        return self.script(run, config).rstrip()

    def script(self, folder: Path, config: Config, runs: Sequence[Path] = (), points: Path | None = None) -> str:
        """The job file. `runs`: of a sweep in `folder`, listed in the file `points`; empty: `folder` is the run."""
        folder = folder.absolute()
        if odd := re.search(r"[\s%\\'\"#]", str(folder)):
            raise UsageError(f"{folder}: Slurm cannot write to a path with {odd[0]!r} in it; choose another folder")
        options = self._options(folder, config, runs)
        run, chosen = shlex.quote(str(folder)), ""
        if points:
            run = '"$run"'
            chosen = f'run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(points.absolute()))})\n'
        tasks = {
            "kill-on-bad-exit": 1,
            "cpus-per-task": self.cpus,
            **(self.srun or {}),
        }  # Slurm 22.05 to 23.02 does not inherit it
        return (
            "#!/bin/bash\n"
            + "".join(f"#SBATCH {option}\n" for option in _written(options))
            + "#SBATCH --requeue\n"
            + "".join(f"{line}\n" for line in self.setup or ())
            + "".join(f"export {name}={shlex.quote(os.environ[name])}\n" for name in _KEPT if os.environ.get(name))
            + chosen
            + f"exec srun {' '.join(_written(tasks))} {_IGNORE_WARNING} "
            + f"{shlex.quote(self.python or sys.executable)} -P -m mmattn.training.worker {run}\n"
        )

    def _options(self, folder: Path, config: Config, runs: Sequence[Path]) -> dict[str, str | int]:
        """The options of sbatch."""
        devices = config["trainer"]["devices"]
        options: dict[str, str | int] = {
            "job-name": re.sub(r"[^\w.,=+-]", "_", f"mmattn-{folder.name}"),
            "nodes": self.nodes,
            "ntasks-per-node": devices,
            "cpus-per-task": self.cpus,
            "mem": f"{round(self.memory_gb * 1024)}M",
            "time": self.minutes,
            "signal": f"USR1@{self.warn_s or self._warn_s(runs or [folder])}",
            "open-mode": "append",
            "output": f"{folder}/slurm-{'%A_%a' if runs else '%j'}.out",
        }
        if config["trainer"]["accelerator"] != "cpu":
            options["gpus-per-node"] = devices
        if self.partition:
            options["partition"] = self.partition
        if runs:
            options["array"] = f"0-{len(runs) - 1}%{self.parallel}"
        return options | dict(self.options or {})

    def _warn_s(self, runs: Sequence[Path]) -> int:
        """Long enough to finish the current step and to write the largest checkpoint of the runs."""
        sizes = [(run / LAST).stat().st_size if (run / LAST).is_file() else weights_of(run) * ADAM for run in runs]
        return min(round(WARN_S + max(sizes) / WRITE), 30 * self.minutes)


def _written(options: Mapping[str, str | int]) -> list[str]:
    """Options as words; {exclusive: true} is an option without a value."""
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]


def _job_of(config: Config) -> tuple:
    return config["launcher"], config["trainer"]["devices"], config["trainer"]["accelerator"]


def _check_options(key: str, program: str, options: Mapping[str, str | int]) -> None:
    for name, value in options.items():
        if not re.fullmatch(r"[a-z][a-z-]*", str(name)) or not re.fullmatch(r"[\w.,:@%+*/=\[\]-]+", str(value)):
            raise UsageError(f"launcher.{key}: {name}={value!r} is not an option of {program} with a plain value")
