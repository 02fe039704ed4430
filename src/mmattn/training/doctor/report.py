"""`mmattn doctor`: checks whether this machine can train and predict, and names a fix for each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import MmattnError
from mmattn.text import counted
from mmattn.training.doctor.devices import exchanges, gpus, processes
from mmattn.training.doctor.finding import MachineFinding
from mmattn.training.doctor.media import codecs, decoders
from mmattn.training.doctor.packages import builds, packages
from mmattn.training.doctor.resources import disk, open_files, shared_memory
from mmattn.training.doctor.services import slurm, wandb


def doctor(config: Config) -> str:
    """The findings, one per line. Raises MmattnError, after printing them, when there is a problem.

    Of several processes (torchrun, srun) all take part in the exchange, and rank 0 does and reports the rest.
    """
    from mmattn.training.doctor.collective import place

    folder, own = Path(str(config["folder"])), place()
    between = list(exchanges()) if own else []
    if own and own.rank:
        return ""
    checks: tuple[Callable[[], Iterator[MachineFinding]], ...] = (
        lambda: iter(between),
        *(packages, builds, codecs, decoders, gpus, processes, wandb, slurm),
        lambda: disk(folder, config["disk_gb"]),
        lambda: shared_memory(Path("/dev/shm"), config["shared_gb"]),
        open_files,
    )
    found = [finding for check in checks for finding in check()]
    text = "\n".join(map(str, found))
    problems = [finding.what for finding in found if finding.level == "problem"]
    if problems:
        print(text)
        raise MmattnError(f"doctor: {counted(len(problems), 'problem')} to fix: {', '.join(problems)}")
    return text
