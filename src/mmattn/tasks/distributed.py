"""Means over the whole batch of a distributed run, of which each process has a part."""

from __future__ import annotations

from torch import Tensor, distributed


def each_process(count: Tensor, least: float = 1.0) -> Tensor:
    """The mean over processes of their counts.

    A sum divided by it is a loss whose mean over processes is the mean over the whole batch; so are its gradients.
    `least`: the smallest count of the whole batch. Every process must call this, with counts of one shape.
    """
    whole = count.detach().float()
    if not (distributed.is_available() and distributed.is_initialized()):
        return whole.clamp(min=least)
    whole = whole.clone()  # float() does not copy float32, and all_reduce writes in place
    distributed.all_reduce(whole)
    return whole.clamp(min=least) / distributed.get_world_size()
