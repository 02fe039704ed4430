"""trainer.strategy=fsdp: FSDP2, by which each process holds a share of weights, gradients and optimizer state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.training.loop.module import TrainingModule
from mmattn.training.sharding.blocks import blocks
from mmattn.types import Batch, Fused, LayerStats, Tokens

# What is called on the parts beside `forward`: there, too, their weights must be whole.
_CALLED = {"task": ("reads",), "captions": ("loss", "generate", "said")}


def check_shardable(config: Config, processes: int) -> None:
    """Raises UsageError for options that need all weights in every process, and for those of fsdp without it."""
    options = config["trainer"]
    if (kind := options.get("checkpoints", "whole")) not in ("whole", "sharded"):
        raise UsageError(f"trainer.checkpoints={kind}: expected whole or sharded")
    if options.get("strategy", "ddp") != "fsdp":
        for key, default in (("checkpoints", "whole"), ("shard", 0)):
            if options.get(key, default) != default:
                raise UsageError(f"trainer.{key}={options[key]} is for trainer.strategy=fsdp, which shares weights out")
        return
    if (shard := options.get("shard", 0)) < 0 or (shard and processes % shard):
        raise UsageError(f"trainer.shard={shard}: expected 0, or what divides the {processes} processes")
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
        how: dict[str, Any] = {"mesh": self.device_mesh, "mp_policy": _precision(self.trainer.precision)}
        for block in blocks(self.model):
            fully_shard(block, **how)
        for name in ("visual", "audio", "fusion", "task", "captions"):
            part: nn.Module | None = getattr(self.model, name)
            if part is None or not any(True for _ in part.parameters()):
                continue
            fully_shard(part, **how)
            for method in _CALLED.get(name, ()):
                register_fsdp_forward_method(part, method)


def _precision(precision: str | None) -> Any:
    """What is gathered and computed with. Gradients are summed, and weights kept, in 32 bits.

    Inputs stay as they are, times in seconds among them; autocast chooses what to compute with them.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    gathered = torch.bfloat16 if precision == "bf16-mixed" else None
    return MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)


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
