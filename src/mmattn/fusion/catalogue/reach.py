"""How far a fusion reaches: on which tokens of one stream the other's tokens depend, measured by gradients.

Shape legend: N output tokens, L tokens of the other stream, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.fusion.interface import Fusion
from mmattn.types import MODALITIES, Modality, Tokens


def reach(
    fusion: Fusion, streams: dict[Modality, Tokens], asked: dict[Modality, Sequence[int]]
) -> dict[Modality, Float[Tensor, "N L"]]:
    """For each stream: how strongly its fused tokens `asked` depend on each token of the other stream; 0: not at all.

    `streams` of one clip. The clip is copied for each asked token, so that one backward pass serves all of them.
    """
    places: list[tuple[Modality, int]] = [(name, token) for name in MODALITIES for token in asked[name]]
    copies: dict[Modality, Tokens] = {
        name: Tokens(
            one.values.expand(len(places), -1, -1).clone().requires_grad_(),
            one.keep.expand(len(places), -1),
            one.times.expand(len(places), -1),
        )
        for name, one in streams.items()
    }
    fused = fusion(copies["video"], copies["audio"])
    done: dict[Modality, Tokens] = {"video": fused.video, "audio": fused.audio}
    outputs = torch.stack([done[name].values[copy, token] for copy, (name, token) in enumerate(places)])
    # No sum of channels that a normalisation would keep constant.
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    leaves = [copies[name].values for name in MODALITIES]
    slopes = torch.autograd.grad((outputs * weights).sum(), leaves, allow_unused=True, materialize_grads=True)
    of_video, of_audio = (slope.abs().amax(dim=2) for slope in slopes)
    return {"video": of_audio[: len(asked["video"])], "audio": of_video[len(asked["video"]) :]}


def between(fusion: Fusion, dim: int, count: dict[Modality, int], seconds: float) -> float:
    """The share of the other stream that the first and the middle token of a stream depend on, for evenly spread ones.

    Parameters are changed a little first, as by a training step, because a gate that starts at 0 passes nothing.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    streams: dict[Modality, Tokens] = {
        name: Tokens(
            torch.randn(1, number, dim, generator=generator).double(),
            torch.ones(1, number, dtype=torch.bool),
            ((torch.arange(number) + 0.5) * (seconds / number))[None],
        )
        for name, number in count.items()
    }
    found = reach(fusion.double().eval(), streams, {name: (0, number // 2) for name, number in count.items()})
    return float(torch.cat([size.flatten() for size in found.values()]).ne(0).double().mean())
