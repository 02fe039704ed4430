"""Means over the whole batch, of which each process of a run has a part."""

from __future__ import annotations

from torch import Tensor, distributed


def each_process(count: Tensor, least: float = 1.0) -> Tensor:
    """How many each process would have if all had the same, from the counts that this process has.

    A sum over this many is a loss whose mean over processes, as that of their gradients, is the one of the whole batch.
    `least`: the whole batch counts so many at least. All processes have to ask, with counts of one shape.
    """
    whole = count.detach().float()
    if not (distributed.is_available() and distributed.is_initialized()):
        return whole.clamp(min=least)
    whole = whole.clone()  # where they are floats already, it is the caller's tensor
    distributed.all_reduce(whole)
    return whole.clamp(min=least) / distributed.get_world_size()
