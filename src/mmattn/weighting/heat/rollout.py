"""Attention rollout (Abnar and Zuidema 2020): the tokens that a tag attends to through all layers (descriptive)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import MODALITIES, LayerStats
from mmattn.weighting.heat.encoded_clip import EncodedClip, Heat


@torch.inference_mode()
def rollout(clip: EncodedClip, tags: Sequence[int]) -> Heat | None:
    """The attention of each tag on the encoders' tokens through all layers, from the task's attention backwards.

    Each layer counts half for its attention and half for its residual. Rows sum to 1 over both streams together. None
    if a layer has no attention weights (some mechanisms; fusions without attention), if its weights are on other tokens
    (groups, in `hierarchical`), or if the matrix would be too large.
    """
    try:
        fused = clip.fused(frozenset({"mass", "weights"}))
    except ValueError:  # above the cap
        return None
    if not fused.stats or any(layer.weights is None for layer in fused.stats):
        return None
    sizes = [clip.stream(name).keep.shape[1] for name in MODALITIES]
    eye = torch.eye(sum(sizes), device=clip.video.keep.device)
    traced: dict[str, Tensor] = dict(zip(MODALITIES, eye.split(sizes), strict=True))  # part -> (its tokens, all tokens)
    if any(_on_other_tokens(layer, traced) for layer in fused.stats):
        return None
    layers = list(dict.fromkeys(layer.layer for layer in fused.stats))
    for name in layers:
        after: dict[str, list[Tensor]] = {}
        for layer in (each for each in fused.stats if each.layer == name):
            assert layer.weights is not None
            read = sum(
                (weights[0].float() @ traced[part] for part, weights in layer.weights.items() if part in traced),
                start=torch.zeros(layer.query_keep.shape[1], sum(sizes), device=eye.device),
            )
            own = traced.get(layer.stream)
            after.setdefault(layer.stream, []).append(
                _normalised(read) if own is None else _normalised((own + _normalised(read)) / 2)
            )
        traced |= {part: torch.stack(each).mean(dim=0) for part, each in after.items()}
    reads = clip.model.task.reads(fused)
    attended = [reads[name][0, list(tags)].float() @ traced[name] for name in MODALITIES]
    total = _normalised(torch.stack(attended).sum(dim=0))
    return dict(zip(MODALITIES, total.split(sizes, dim=1), strict=True))


def _on_other_tokens(layer: LayerStats, traced: dict[str, Tensor]) -> bool:
    """Whether its queries or keys are not the tokens of the streams."""
    assert layer.weights is not None
    sizes = {layer.stream: layer.query_keep.shape[1]} | {part: w.shape[2] for part, w in layer.weights.items()}
    return any(part in traced and len(traced[part]) != size for part, size in sizes.items())


def _normalised(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Normalise rows to sum to 1; rows of zeros stay."""
    total = matrix.sum(dim=-1, keepdim=True)
    return matrix / torch.where(total > 0, total, 1.0)
