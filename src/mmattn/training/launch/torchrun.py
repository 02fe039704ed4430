"""launcher=torchrun: an agent on each node starts its processes, and restarts all of them when one has died."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from mmattn.config.compose import Config
from mmattn.data.load.splits import SplitData
from mmattn.errors import MmattnError, UsageError, first_line
from mmattn.training.distributed.launcher import Launcher, at_least_one


@dataclass(frozen=True)
class Torchrun(Launcher):
    """`endpoint`: host:port of one node, where all nodes meet. Each node runs the same number of processes.

    `min_nodes`: training starts with this many nodes, and continues when others are lost; when a node joins, all
    processes restart from the last checkpoint with it. None: `nodes`.
    """

    nodes: int
    endpoint: str
    restarts: int
    join_s: float
    min_nodes: int | None = None

    def __post_init__(self) -> None:
        at_least_one("nodes", self.nodes)
        host, _, port = self.endpoint.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"launcher.endpoint={self.endpoint}: expected host:port")
        if self.restarts < 0 or self.join_s <= 0:
            raise UsageError("launcher: expected restarts of 0 or more and join_s above 0")
        if not 1 <= self.least <= self.nodes:
            raise UsageError(f"launcher.min_nodes={self.min_nodes}: expected 1 to launcher.nodes={self.nodes}")

    @property
    def least(self) -> int:
        """The number of nodes with which training starts and continues."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    def start(self, run: Path, config: Config, data: SplitData | None) -> None:
        from torch.distributed import DistError
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous.api import RendezvousError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        from mmattn.training.launch.outcome import stopped_run

        if data is not None:
            data.close()
        if self.nodes > 1:
            # With the agents' own store, a node that joins later waits in vain for its address (torch 2.14).
            os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
            print(f"waiting at {self.endpoint}; on each other node: {self._join(run)}", file=sys.stderr)
        settings = LaunchConfig(
            min_nodes=self.least,
            max_nodes=self.nodes,
            nproc_per_node=config["trainer"]["devices"],
            run_id=run.name,
            rdzv_backend="c10d",
            rdzv_endpoint=self.endpoint,
            rdzv_configs={"join_timeout": self.join_s},
            max_restarts=self.restarts,
            monitor_interval=0.1,
        )
        try:
            elastic_launch(settings, sys.executable)("-P", "-m", "mmattn.training.worker", str(run))
        except SignalException as stopped:
            raise stopped_run(run, 128 + stopped.sigval) from None
        except ChildFailedError as failed:
            _, first = failed.get_first_failure()
            error = MmattnError(f"{run}: a process ended with exit code {first.exitcode}; its message is above")
            error.exit_code = 2 if first.exitcode == 2 else 1
            raise error from None
        except (RendezvousError, DistError, TimeoutError) as error:
            why = first_line(error)
            raise MmattnError(f"launcher.endpoint={self.endpoint}: the nodes could not connect ({why})") from None

    def environment(self) -> ClusterEnvironment:
        return TorchElasticEnvironment()

    def describe(self, run: Path, config: Config) -> str:
        devices = config["trainer"]["devices"]
        here = f"{devices} x {self.nodes} processes; agents meet at {self.endpoint}"
        return f"{here}; on each other node: {self._join(run)}" if self.nodes > 1 else here

    def _join(self, run: Path) -> str:
        return f"mmattn train resume={run}"
