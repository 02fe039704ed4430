"""Flattens a training checkpoint to named tensors, and converts optimizer states between names and numbers.

Lightning and torch number the parameters of an optimizer; where weights are sharded, they are identified by name.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

WEIGHTS, OPTIMIZERS = "state_dict", "optimizer_states"
State = dict[str, Any]


def flatten(weights: State, optimizers: list[State]) -> dict[str, Tensor]:
    """All tensors under unique names. `optimizers`: states by name."""
    tensors = {f"{WEIGHTS}/{name}": weight for name, weight in weights.items()}
    for number, optimizer in enumerate(optimizers):
        for name, values in optimizer["state"].items():
            tensors |= {f"{OPTIMIZERS}/{number}/{key}/{name}": value for key, value in values.items()}
    return tensors


def unflatten(tensors: dict[str, Tensor], groups: list[list[State]]) -> tuple[State, list[State]]:
    """The inverse of `flatten`: weights and optimizer states by name. `groups`: of each optimizer."""
    weights: State = {}
    optimizers: list[State] = [{"state": {}, "param_groups": own} for own in groups]
    for place, tensor in tensors.items():
        kind, _, name = place.partition("/")
        if kind == WEIGHTS:
            weights[name] = tensor
        else:
            number, key, name = name.split("/", 2)
            optimizers[int(number)]["state"].setdefault(name, {})[key] = tensor
    return weights, optimizers


def whole_checkpoint(rest: State, tensors: dict[str, Tensor]) -> State:
    """The checkpoint as one process would have saved it."""
    weights, optimizers = unflatten(tensors, rest[OPTIMIZERS])
    return {**rest, WEIGHTS: weights, OPTIMIZERS: [numbered(optimizer) for optimizer in optimizers]}


def numbered(optimizer: State) -> State:
    """An optimizer state by name as one by number."""
    names = [name for group in optimizer["param_groups"] for name in group["params"]]
    return _renamed(optimizer, {name: number for number, name in enumerate(names)})


def named(optimizer: State, own: Optimizer, model: nn.Module) -> State:
    """An optimizer state by number as one by the parameter names of `model`, in the order of `own`."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    names = [name_of[id(parameter)] for group in own.param_groups for parameter in group["params"]]
    keys = [key for group in optimizer["param_groups"] for key in group["params"]]
    return _renamed(optimizer, dict(zip(keys, names, strict=True)))


def _renamed(optimizer: State, names: dict[Any, Any]) -> State:
    groups = [{**group, "params": [names[key] for key in group["params"]]} for group in optimizer["param_groups"]]
    return {"state": {names[key]: value for key, value in optimizer["state"].items()}, "param_groups": groups}
