"""The Banzhaf value of each token: what a score depends on (causal)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.types import MODALITIES
from mmattn.weighting.heat.encoded_clip import EncodedClip, Heat


def banzhaf(
    clip: EncodedClip, tags: Sequence[int], masks: int = 256, seed: int = 0
) -> tuple[Heat, Float[Tensor, " K"]]:
    """The contribution of each token to the score of each tag, averaged over all subsets of the other tokens.

    The Banzhaf value, estimated from `masks` random halves of the tokens and their complements: the mean score of the
    subsets with the token, less the mean of those without (Wang and Jia 2023, "Data Banzhaf", maximum sample reuse).
    Removing one token at a time would miss what many tokens show. Also returns the standard error of the values, which
    falls as 1 / sqrt(masks). Padding has the value 0.
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
