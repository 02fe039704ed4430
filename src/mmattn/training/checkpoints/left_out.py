"""Frozen weights of a language model from files, which a training checkpoint replaces by a digest.

The model that a run saves for inference still contains everything.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmattn.config.compose import Config
from mmattn.errors import UsageError
from mmattn.model import AVModel, without_files

_KEY = "left_out"  # of a checkpoint: the digest


def resume_settings(config: Config) -> Config:
    """The config of a model whose weights come from a training checkpoint, except those that it leaves out."""
    captions = config.get("captions") or {}
    stays = captions.get("pretrained") is not None and captions.get("mode") in ("frozen", "lora")
    return without_files(config) | ({"captions": captions} if stays else {})


def left_out(model: AVModel) -> dict[str, Tensor]:
    """Frozen weights of a language model that came from files, by their names in the model.

    Empty where the weights are sharded: each process saves its part.
    """
    captions = model.captions
    if captions is None or not getattr(captions, "from_files", False):
        return {}
    return {
        f"captions.language.{name}": weight
        for name, weight in captions.language.named_parameters(remove_duplicate=False)  # type: ignore[union-attr]
        if not weight.requires_grad and not isinstance(weight, DTensor)
    }


def drop_from(checkpoint: dict[str, Any], model: AVModel) -> None:
    """Remove them from a Lightning checkpoint."""
    if found := left_out(model):
        for name in found:
            checkpoint["state_dict"].pop(f"model.{name}", None)
        checkpoint[_KEY] = _digest(found)


def put_back(checkpoint: dict[str, Any], model: AVModel) -> None:
    """Restore them from the model, which loaded the files. Raises UsageError if the files have changed."""
    if _KEY not in checkpoint:
        return
    found = left_out(model)
    if not found:
        raise UsageError(
            "the checkpoint does not contain its frozen language model; continue as it was trained: with "
            "captions.pretrained, and without trainer.strategy=fsdp"
        )
    if _digest(found) != checkpoint[_KEY]:
        raise UsageError(
            "captions.pretrained: the language model in these files is not the one that the checkpoint was trained "
            "with; put back the files that were there"
        )
    checkpoint["state_dict"] |= {f"model.{name}": weight for name, weight in found.items()}


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].dtype} {list(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
