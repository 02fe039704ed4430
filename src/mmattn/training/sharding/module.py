"""The training module of FSDP2: each process holds a shard of the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from mmattn.model import PARTS, AVModel
from mmattn.training.loop.module import TrainingModule
from mmattn.training.sharding.blocks import blocks
from mmattn.training.sharding.meta import fill_from_first
from mmattn.types import Batch, Fused, LayerStats, Tokens

# Methods of the parts besides `forward` that need their weights gathered.
_CALLED = {"task": ("reads",), "captions": ("loss", "generate", "log_probs")}


class ShardedModule(TrainingModule):
    """Gathers blocks one at a time in forward and backward, and the remaining weights of a part with the part."""

    def configure_model(self) -> None:
        """Only rank 0 need have built the model with weights."""
        if any(isinstance(weight, DTensor) for weight in self.model.parameters()):
            return
        assert self.device_mesh is not None
        whole = self.model.state_dict() if self.trainer.is_global_zero else {}
        shard(self.model, self.device_mesh, _precision(self.trainer.precision))
        fill_from_first(self.model, whole, self.trainer.strategy.root_device)


def shard(model: AVModel, mesh: DeviceMesh, precision: Any) -> None:
    """Divide the weights of `model` among the processes of `mesh`."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    _let_through(Tokens, Fused, LayerStats, Batch)
    how: dict[str, Any] = {"mesh": mesh, "mp_policy": precision}
    for block in blocks(model):
        fully_shard(block, **how)
    for name in PARTS:
        part: nn.Module | None = getattr(model, name)
        if part is None or not any(True for _ in part.parameters()):
            continue
        fully_shard(part, **how)
        for method in _CALLED.get(name, ()):
            register_fsdp_forward_method(part, method)


def _precision(precision: str | None) -> Any:
    """The precision in which weights are gathered. Gradients are summed, and weights stored, in 32 bits.

    Inputs, such as times in seconds, are not cast; autocast chooses the precision of each operation.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    gathered = torch.bfloat16 if precision == "bf16-mixed" else None
    return MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _let_through(*types: type[Any]) -> None:
    """Register our types, in which FSDP has to find the tensors that go into and come out of a module."""
    for kind in types:
        if kind not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(kind, serialized_type_name=f"mmattn.{kind.__name__}")
