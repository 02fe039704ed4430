"""`mmattn doctor`: is this machine fit to train and to predict? Each problem with its fix. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mmattn.config.compose import Config
from mmattn.errors import MmattnError
from mmattn.training.doctor.devices import exchanges, gpus, processes
from mmattn.training.doctor.finding import MachineFinding
from mmattn.training.doctor.media import codecs, decoders
from mmattn.training.doctor.packages import builds, packages
from mmattn.training.doctor.resources import disk, open_files, shared_memory
from mmattn.training.doctor.services import slurm, wandb


def doctor(config: Config) -> str:
    """What was found, a line each. Raises MmattnError, after printing it, when there is a problem.

    Of several processes (torchrun, srun) all exchange, and the first looks at the rest and tells of all.
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
        raise MmattnError(f"doctor: {len(problems)} to fix: {', '.join(problems)}")
    return text
