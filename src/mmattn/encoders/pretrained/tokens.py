"""From the feature maps of a network to tokens: which ones, and the projection to the model's channels."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from mmattn.errors import UsageError

Kind = Literal["patch", "frame"]


class Projection(nn.Sequential):
    """A network's channels to `dim`, normalised as the built-in encoders' tokens are."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(nn.Linear(channels, dim), nn.LayerNorm(dim))


def check_tokens(tokens: str) -> None:
    """Raises UsageError unless `tokens` is a `Kind`."""
    if tokens not in get_args(Kind):
        raise UsageError(f"tokens={tokens}: expected one of {', '.join(get_args(Kind))}")


def pooled(places: Float[Tensor, "N h w C"], grid: int | None) -> Float[Tensor, "N P C"]:
    """The places of a feature map, row by row; averaged to grid x grid cells if `grid` is smaller than the map."""
    if grid is not None and grid < min(places.shape[1:3]):
        places = nn.functional.adaptive_avg_pool2d(places.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
    return places.flatten(1, 2)
