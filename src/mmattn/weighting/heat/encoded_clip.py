"""Which tokens a tag's score depends on (causal), and which it looks at (descriptive). One clip at a time.

A token is taken away as a missing modality is: by its keep mask. So it is the model's own idea of not having it.
Shape legend: L tokens of a stream, N masks, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.model import AVModel
from mmattn.types import MODALITIES, Fused, LayerStats, Modality, Tokens

Heat = dict[Modality, Float[Tensor, "K L"]]


@dataclass(frozen=True)
class EncodedClip:
    """Both streams of one clip (B = 1), encoded once; scores under any choice of its tokens."""

    model: AVModel
    video: Tokens
    audio: Tokens
    batch_size: int = 64

    def stream(self, name: Modality) -> Tokens:
        return self.video if name == "video" else self.audio

    def keep(self) -> dict[Modality, Bool[Tensor, " L"]]:
        """Which tokens are real."""
        return {name: self.stream(name).keep[0] for name in MODALITIES}

    @torch.inference_mode()
    def scores(self, masks: dict[Modality, Bool[Tensor, "N L"]], tags: Sequence[int]) -> Float[Tensor, "N K"]:
        """Of `tags`, with only those tokens that a mask keeps."""
        found = []
        for part in zip(*(masks[name].split(self.batch_size) for name in MODALITIES), strict=True):
            video, audio = (
                Tokens(tokens.values.expand(len(mask), -1, -1), tokens.keep & mask, tokens.times.expand(len(mask), -1))
                for tokens, mask in zip((self.video, self.audio), part, strict=True)
            )
            found.append(self.model.task.scores(self.model.task(self.model.fuse(video, audio)))[:, list(tags)])
        return torch.cat(found)

    @torch.inference_mode()
    def fused(self, stats: frozenset[str]) -> Fused:
        return self.model.fuse(self.video, self.audio, stats)


def banzhaf(
    clip: EncodedClip, tags: Sequence[int], masks: int = 256, seed: int = 0
) -> tuple[Heat, Float[Tensor, " K"]]:
    """What a token adds to the score of each tag, averaged over all choices of the other tokens, and its `error`.

    The Banzhaf value, estimated from `masks` random halves of the tokens and their complements: the mean score of the
    choices with the token, less the mean of those without (Wang and Jia 2023, "Data Banzhaf", maximum sample reuse).
    Taking out one token at a time would miss what many tokens show alike. `error`: the standard error of the values,
    which falls as 1 / sqrt(masks). Padding has the value 0.
    """
    keep = clip.keep()
    sizes = [len(keep[name]) for name in MODALITIES]
    generator = torch.Generator().manual_seed(seed)
    half = torch.rand(max(1, masks // 2), sum(sizes), generator=generator) < 0.5
    chosen = torch.cat([half, ~half]).to(clip.video.keep.device)  # (N, Lv + La), each token in exactly half of them
    scores = clip.scores(dict(zip(MODALITIES, chosen.split(sizes, dim=1), strict=True)), tags).float()
    signs = chosen.float() * 2 - 1
    values = 2 * signs.T @ scores / len(chosen)  # mean with minus mean without, as both halves are of one size
    parts = zip(MODALITIES, values.T.split(sizes, dim=1), strict=True)
    return {name: part * keep[name] for name, part in parts}, 2 * scores.std(dim=0) / len(chosen) ** 0.5


@torch.inference_mode()
def rollout(clip: EncodedClip, tags: Sequence[int]) -> Heat | None:
    """What each tag looks at, through all layers: attention rollout (Abnar and Zuidema 2020), from the task's questions
    back to the encoders' tokens. Each layer counts half its attention, half its residual. Rows sum to 1 over both
    streams together.

    None where a layer's attention has no weights (some mechanisms, fusions that do not attend), where they are of other
    tokens (groups of them, in `hierarchical`), or where the matrix would be too large.
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
    """Whether its queries or keys are not the streams' tokens."""
    assert layer.weights is not None
    sizes = {layer.stream: layer.query_keep.shape[1]} | {part: w.shape[2] for part, w in layer.weights.items()}
    return any(part in seen and len(seen[part]) != size for part, size in sizes.items())


def _rows(matrix: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Rows that sum to 1, but for those of nothing."""
    total = matrix.sum(dim=-1, keepdim=True)
    return matrix / torch.where(total > 0, total, 1.0)
