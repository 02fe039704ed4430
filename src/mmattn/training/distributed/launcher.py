"""The interface of launchers: they start the processes of a run, here or on a cluster, on its run directory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from mmattn.config.compose import Config, build
from mmattn.data.load.splits import SplitData
from mmattn.errors import UsageError
from mmattn.text import counted


class Launcher(ABC):
    """`nodes`: machines, each with trainer.devices processes. `here`: whether the devices are of this machine."""

    here: ClassVar[bool] = True
    nodes: int

    @property
    def least(self) -> int:
        """The number of nodes that training needs: fewer than `nodes` where some may be lost."""
        return self.nodes

    @abstractmethod
    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        """Train `run`, or submit it. `data`: opened to check the config, to be used or closed."""

    @abstractmethod
    def environment(self) -> ClusterEnvironment:
        """How a process that this launcher started finds its rank.

        Never guessed from the environment: a shell inside a Slurm job is not one of Slurm's processes.
        """

    def describe(self, run: Path, config: Config) -> str:
        """What `start` would do, for --dry-run."""
        count = config["trainer"]["devices"]
        return f"{counted(count, 'process')} on this machine"

    def start_all(self, runs: Sequence[Path], configs: Sequence[Config]) -> bool:
        """Start all runs of a sweep at once where the launcher can; False: they have to be started one by one."""
        return False


def launcher_of(config: Config) -> Launcher:
    """The launcher of the config; Local for a run older than the setting."""
    return build(config.get("launcher") or {"_target_": "mmattn.training.launch.local.Local"})


def at_least_one(key: str, value: float) -> None:
    """Raises UsageError for a value of `launcher` below 1."""
    if value < 1:
        raise UsageError(f"launcher.{key}={value}: expected 1 or more")
