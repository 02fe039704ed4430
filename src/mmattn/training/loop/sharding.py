"""trainer.strategy=fsdp: FSDP2, by which each process holds a share of weights, gradients and optimizer state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from mmattn.config import Config
from mmattn.errors import UsageError
from mmattn.training.loop.blocks import blocks
from mmattn.training.loop.module import TrainingModule
from mmattn.types import Batch, Fused, LayerStats, Tokens

# What is called on the parts beside `forward`: there, too, their weights must be whole.
_CALLED = {"task": ("reads",), "captions": ("loss", "generate", "said")}


def check_shardable(config: Config) -> None:
    """Raises UsageError for options that need all weights in every process."""
    for group in ("weight_average", "modality_balance", "freeze"):
        if config.get(group):
            raise UsageError(f"trainer.strategy=fsdp shares weights out, {group} needs them whole; use strategy=ddp")
    if "Uncertainty" in str(config.get("multitask")):
        raise UsageError("trainer.strategy=fsdp cannot share out the single weights of multitask=uncertainty")


class ShardedModule(TrainingModule):
    """Blocks are gathered one at a time, in forward and backward; the parts' other weights with their part."""

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        if any(isinstance(weight, DTensor) for weight in self.model.parameters()):
            return
        _let_through(Tokens, Fused, LayerStats, Batch)
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        for block in blocks(self.model):
            fully_shard(block, mesh=mesh)
        for name in ("visual", "audio", "fusion", "task", "captions"):
            part: nn.Module | None = getattr(self.model, name)
            if part is None or not any(True for _ in part.parameters()):
                continue
            fully_shard(part, mesh=mesh)
            for method in _CALLED.get(name, ()):
                register_fsdp_forward_method(part, method)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with every weight whole. Where processes share them out all have to call it; the first gets them,
    in the processor's memory, the others nothing.
    """
    if not any(isinstance(weight, DTensor) for weight in model.parameters()):
        return model.state_dict()
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    gathered = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: tensor for name, tensor in gathered.items() if isinstance(tensor, Tensor)}


def _let_through(*types: type[Any]) -> None:
    """FSDP looks for tensors in what goes in and comes out of a module; it has to know our types for that."""
    for kind in types:
        if kind not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(kind, serialized_type_name=f"mmattn.{kind.__name__}")
