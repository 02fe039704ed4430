"""Models that only the first process builds with weights; the others get their shards of these from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn


@contextmanager
def without_weights() -> Iterator[None]:
    """Parameters of modules that are built meanwhile are on the meta device, so they take no memory.

    Buffers are real: many are computed, and not part of a state dict.
    """
    plain = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a shared one stays the same object
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        plain(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


def fill_from_first(model: nn.Module, whole: Mapping[str, Tensor], device: torch.device) -> None:
    """Give the sharded `model` of each process its part of the weights `whole` of rank 0, and rank 0's buffers.

    Collective. One weight at a time is on a device as a whole.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    model._apply(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device))
    how = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, dict(whole) if distributed.get_rank() == 0 else {}, options=how)
    for buffer in model.buffers():
        distributed.broadcast(buffer, src=0)
