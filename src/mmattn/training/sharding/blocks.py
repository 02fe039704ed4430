"""The repeated blocks of encoders and fusion, which are recomputed, compiled or sharded one by one."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from mmattn.model import AVModel


def blocks(model: AVModel) -> list[nn.Module]:
    """Modules with weights in the layer lists of encoders and fusion; of nested lists, the outermost."""
    found: list[nn.Module] = []
    for part in (model.visual, model.audio, model.fusion):
        inside: tuple[str, ...] = ()
        for name, module in part.named_modules():
            if name.startswith(inside) and inside:
                continue
            if isinstance(module, nn.ModuleList):
                members = [b for m in module for b in (m.values() if isinstance(m, nn.ModuleDict) else (m,))]
                found += [block for block in members if any(True for _ in block.parameters())]
                inside += (f"{name}.",)
    return found


def recompute(model: AVModel) -> None:
    """Activation checkpointing (Chen et al. 2016): a block keeps only its inputs and runs again in the backward pass.

    The same random numbers are drawn again, so gradients are the same. Parameter names do not change.
    """
    for block in blocks(model):
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Any, *args: Any, **options: Any) -> Any:
    return checkpoint(forward, *args, use_reentrant=False, **options)


def compile_parts(model: AVModel) -> None:
    """torch.compile encoders, fusion and task in place, keeping parameter names. The fusion is one graph."""
    for part in (model.visual, model.audio, model.task):
        part.compile()
    model.fusion.compile(fullgraph=model.fusion.one_graph)
