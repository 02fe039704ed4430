"""`mmattn doctor` under torchrun or srun: connects all processes, measures all-reduce, and finds slow ones."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed

from mmattn.errors import MmattnError, first_line

BYTES = 64 << 20  # size of the all-reduced tensor
TIMES = 7  # repetitions; the median counts
SLOW = 1.5  # times the median of the processes' local work
WAIT_S = 120.0


@dataclass(frozen=True)
class Place:
    """The rank of this process, and where the processes meet."""

    rank: int
    world: int
    local_rank: int
    address: str
    port: int


@dataclass(frozen=True)
class Exchange:
    """`gb_per_s`: bus bandwidth, 2 (n - 1) / n times the reduced bytes. `slow`: process -> time over the median."""

    backend: str
    hosts: dict[str, int]  # -> processes
    seconds: float
    gb_per_s: float
    slow: dict[str, float]

    def __str__(self) -> str:
        count = sum(self.hosts.values())
        return (
            f"{self.backend}, {count} processes on {len(self.hosts)} host{'s' if len(self.hosts) > 1 else ''}: "
            f"{BYTES >> 20} MiB in {1000 * self.seconds:.1f} ms, {self.gb_per_s:.2f} GB/s"
        )


def place() -> Place | None:
    """This process among several; None for a single process, also one in the shell of a Slurm job."""
    known = os.environ
    if "TORCHELASTIC_RUN_ID" in known:
        rank, world, local = (int(known[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Place(rank, world, local, known["MASTER_ADDR"], int(known["MASTER_PORT"])) if world > 1 else None
    if "SLURM_STEP_ID" in known and int(known.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        slurm = SLURMEnvironment(auto_requeue=False)
        world = int(known["SLURM_STEP_NUM_TASKS"])
        return Place(slurm.global_rank(), world, slurm.local_rank(), slurm.main_address, slurm.main_port)
    return None


def exchange(own: Place) -> Exchange:
    """Measure the exchange. Collective, with the same result for all. Raises MmattnError where they do not connect."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", own.local_rank % torch.cuda.device_count()) if cuda else torch.device("cpu")
    backend = "nccl" if cuda and distributed.is_nccl_available() else "gloo"
    if cuda:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            backend,
            init_method=f"tcp://{own.address}:{own.port}",
            rank=own.rank,
            world_size=own.world,
            timeout=timedelta(seconds=WAIT_S),
        )
        return _measure(device, backend)
    except (RuntimeError, ValueError) as error:
        raise MmattnError(
            f"rank {own.rank} of {own.world} on {socket.gethostname()}: {backend} at {own.address}:{own.port}: "
            f"{first_line(error)}"
        ) from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _measure(device: torch.device, backend: str) -> Exchange:
    world = distributed.get_world_size()
    values = torch.ones(BYTES // 4, device=device)
    square = torch.rand(1024, 1024, device=device) / 512

    def work() -> None:
        torch.linalg.multi_dot([square] * 4)

    def reduce() -> None:
        distributed.all_reduce(values)
        values.div_(world)

    alone, together = _time(work, device), _time(reduce, device)
    found: list = [None] * world
    distributed.all_gather_object(found, (socket.gethostname(), alone, together))
    usual = statistics.median(seconds for _, seconds, _ in found)
    slow = {
        f"rank {rank} on {host}": seconds / usual
        for rank, (host, seconds, _) in enumerate(found)
        if seconds > SLOW * usual
    }
    names = [host for host, _, _ in found]
    slowest = max(seconds for _, _, seconds in found)
    bandwidth = 2 * (world - 1) / world * BYTES / slowest / 1e9
    return Exchange(backend, {name: names.count(name) for name in names}, slowest, bandwidth, slow)


def _time(call: Callable[[], None], device: torch.device) -> float:
    """Median seconds of `call`, with all processes starting together."""
    took = []
    for _ in range(TIMES + 2):
        distributed.barrier()
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - begun)
    return statistics.median(took[2:])
