"""The process group of a run, joined before anything is built, so that rank 0 decides and reads for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import Tensor, distributed
from torch.utils._pytree import tree_map_only

from mmattn.errors import MmattnError, PeerFailed

Processes = tuple[ClusterEnvironment, int, int]  # how a process finds its rank, processes of a node, nodes
Answer = TypeVar("Answer")


@contextmanager
def joined(processes: Processes, accelerator: str, timeout_s: float) -> Iterator[None]:
    """Join the process group while the body runs; Lightning then uses the same group.

    `timeout_s`: how long to wait for a silent process. The backend is gloo for CPUs and NCCL for GPUs.
    """
    environment, here, nodes = processes
    if here * nodes == 1:
        yield
        return
    environment.set_global_rank(environment.node_rank() * here + environment.local_rank())
    environment.set_world_size(here * nodes)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    gpu = torch.device("cuda", environment.local_rank()) if accelerator != "cpu" and torch.cuda.is_available() else None
    if gpu:
        torch.cuda.set_device(gpu)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        rank=environment.global_rank(),
        world_size=here * nodes,
        timeout=timedelta(seconds=timeout_s),
        device_id=gpu,
    )
    try:
        yield
        distributed.barrier()  # rank 0 holds the store, so it leaves last
    except BaseException:
        if gpu is None:  # NCCL would wait for the others, which may have ended
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def from_first(call: Callable[[], Answer]) -> Answer:
    """The result of `call` on rank 0, for all processes. An MmattnError ends all; rank 0 reports it."""
    if not distributed.is_initialized():
        return call()
    found: list[Any] = [None, None]
    error: MmattnError | None = None
    if distributed.get_rank() == 0:
        try:
            found[0] = call()
        except MmattnError as failed:
            error, found[1] = failed, failed.exit_code
    distributed.broadcast_object_list(found)
    if error:
        raise error
    if found[1] is not None:
        raise PeerFailed.with_code(found[1])
    return found[0]


def read_by_first(read: Callable[[], Any]) -> Any:
    """As from_first, for plain data with CPU tensors, which are broadcast one by one."""
    if not distributed.is_initialized():
        return read()
    whole: list[Any] = []

    def outline() -> Any:
        whole.append(read())
        return tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), whole[0])

    def send(tensor: Tensor) -> Tensor:
        tensor = torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor.contiguous()
        if tensor.numel():
            distributed.broadcast(tensor, src=0)
        return tensor

    found = from_first(outline)
    return tree_map_only(Tensor, send, whole[0] if whole else found)
