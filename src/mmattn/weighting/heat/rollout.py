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
    seen: dict[str, Tensor] = dict(zip(MODALITIES, eye.split(sizes), strict=True))  # part -> (its tokens, all tokens)
    if any(_of_others(layer, seen) for layer in fused.stats):
        return None
    layers = list(dict.fromkeys(layer.layer for layer in fused.stats))
    for name in layers:
        after: dict[str, list[Tensor]] = {}
        for layer in (each for each in fused.stats if each.layer == name):
            assert layer.weights is not None
            read = sum(
                (weights[0].float() @ seen[part] for part, weights in layer.weights.items() if part in seen),
                start=torch.zeros(layer.query_keep.shape[1], sum(sizes), device=eye.device),
            )
            own = seen.get(layer.stream)
            after.setdefault(layer.stream, []).append(_rows(read) if own is None else _rows((own + _rows(read)) / 2))
        seen |= {part: torch.stack(each).mean(dim=0) for part, each in after.items()}
    reads = clip.model.task.reads(fused)
    looked = [reads[name][0, list(tags)].float() @ seen[name] for name in MODALITIES]
    total = _rows(torch.stack(looked).sum(dim=0))
    return dict(zip(MODALITIES, total.split(sizes, dim=1), strict=True))


def _of_others(layer: LayerStats, seen: dict[str, Tensor]) -> bool:
    """Whether its queries or keys are not the tokens of the streams."""
    assert layer.weights is not None
    sizes = {layer.stream: layer.query_keep.shape[1]} | {part: w.shape[2] for part, w in layer.weights.items()}
    return any(part in seen and len(seen[part]) != size for part, size in sizes.items())


def _rows(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Normalise rows to sum to 1; rows of zeros stay."""
    total = matrix.sum(dim=-1, keepdim=True)
    return matrix / torch.where(total > 0, total, 1.0)
