"""The repeated blocks of encoders and fusion: what is run again, compiled or shared out piece by piece."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from mmattn.model import AVModel


def blocks(model: AVModel) -> list[nn.Module]:
    """Members with weights of every list of layers in encoders and fusion, the outermost where they are nested."""
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
    """Activation checkpointing (Chen et al. 2016): a block keeps its inputs only and runs again in the backward pass.

    Random numbers are drawn again as they were, so gradients stay the same. Names of weights stay, too.
    """
    for block in blocks(model):
        block.forward = partial(_again, block.forward)


def _again(forward: Any, *args: Any, **options: Any) -> Any:
    return checkpoint(forward, *args, use_reentrant=False, **options)


def compile_parts(model: AVModel) -> None:
    """torch.compile of what training calls apart, in place: names of weights stay. The fusion is one graph."""
    for part in (model.visual, model.audio, model.task):
        part.compile()
    model.fusion.compile(fullgraph=model.fusion.one_graph)
