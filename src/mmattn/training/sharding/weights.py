"""Whole weights from those that processes hold in shards."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with whole weights.

    Where they are sharded it is collective: rank 0 gets them, in CPU memory, and the other processes get nothing.
    """
    if not any(isinstance(weight, DTensor) for weight in model.parameters()):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    gathered = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: tensor for name, tensor in gathered.items() if isinstance(tensor, Tensor)}
