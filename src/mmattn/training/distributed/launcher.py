"""What a launcher is: it starts the processes of a run, here or elsewhere, each on the frozen run directory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from mmattn.config.compose import Config, build
from mmattn.data.manifest.splits import SplitData
from mmattn.errors import UsageError
from mmattn.text import counted


class Launcher(ABC):
    """`nodes`: machines, each with trainer.devices processes. `here`: the devices are this machine's."""

    here: ClassVar[bool] = True
    nodes: int

    @property
    def least(self) -> int:
        """Nodes with which training goes on: fewer than `nodes` where some may be lost."""
        return self.nodes

    @abstractmethod
    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        """Train `run` (or have it trained). `data`: what was opened to check the config, to go on with or to close."""

    @abstractmethod
    def environment(self) -> ClusterEnvironment:
        """How a process that this launcher started knows its rank. Never guessed: a shell inside a Slurm job is none
        of Slurm's processes."""

    def describe(self, run: Path, config: Config) -> str:
        """What `start` would do, for dry_run."""
        count = config["trainer"]["devices"]
        return f"{counted(count, 'process')} on this machine"

    def start_all(self, runs: Sequence[Path], configs: Sequence[Config]) -> bool:
        """Start a sweep's runs at once where that can be; False: they are to be started one by one."""
        return False


def launcher_of(config: Config) -> Launcher:
    """The one that the config chose; processes of this machine for a run from before there was a choice."""
    return build(config.get("launcher") or {"_target_": "mmattn.training.launch.local.Local"})


def at_least_one(key: str, value: float) -> None:
    if value < 1:
        raise UsageError(f"launcher.{key}={value}: expected 1 or more")
