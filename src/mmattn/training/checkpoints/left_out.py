"""Frozen weights of a language model from files, which a training checkpoint replaces by a digest.

The model that a run saves for inference still contains everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.model import AVModel, without_files
from mmattn.training.distributed.group import from_first

LEFT_OUT = "left_out"  # of a checkpoint: the digest


def resume_settings(config: Config) -> Config:
    """The config of a model whose weights come from a training checkpoint, except those that it leaves out."""
    captions = config.get("captions") or {}
    stays = captions.get("pretrained") is not None and captions.get("mode") in ("frozen", "lora")
    return without_files(config) | ({"captions": captions} if stays else {})


def left_out(model: AVModel) -> dict[str, Tensor]:
    """Frozen weights of a language model that came from files, by their names in the model.

    Empty where the weights are sharded: such a run saves them all.
    """
    if not getattr(model.captions, "from_files", False):
        return {}
    return {name: weight for name, weight in _frozen(model) if not isinstance(weight, DTensor)}


def _frozen(model: AVModel) -> Iterator[tuple[str, Tensor]]:
    for name, weight in getattr(model.captions, "language", nn.Module()).named_parameters(remove_duplicate=False):
        if not weight.requires_grad:
            yield f"captions.language.{name}", weight


def drop_from(checkpoint: dict[str, Any], model: AVModel) -> None:
    """Remove them from a Lightning checkpoint."""
    if found := left_out(model):
        for name in found:
            checkpoint["state_dict"].pop(f"model.{name}", None)
        checkpoint[LEFT_OUT] = _digest(found)


def put_back(checkpoint: dict[str, Any], model: AVModel) -> None:
    """Restore them from the model, which loaded the files. Raises UsageError if the files have changed."""
    if LEFT_OUT not in checkpoint:
        return
    found = left_out(model)
    _check(found, checkpoint[LEFT_OUT])
    checkpoint["state_dict"] |= {f"model.{name}": weight for name, weight in found.items()}


def gathered(model: AVModel, digest: str) -> dict[str, Tensor]:
    """What `put_back` restores, where the weights are sharded: on rank 0, in CPU memory; nothing on the others.

    Collective. `digest`: of the checkpoint.
    """
    found: dict[str, Tensor] = {}
    for name, weight in _frozen(model):
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if distributed.get_rank() == 0:
            found[name] = whole.cpu()
    from_first(lambda: _check(found, digest))
    return {f"model.{name}": weight for name, weight in found.items()}


def _check(found: dict[str, Tensor], digest: str) -> None:
    if not found:
        raise UsageError(
            "the checkpoint does not contain its frozen language model; continue as it was trained, with "
            "captions.pretrained"
        )
    if _digest(found) != digest:
        raise UsageError(
            "captions.pretrained: the language model in these files is not the one that the checkpoint was trained "
            "with; put back the files that were there"
        )


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {list(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
