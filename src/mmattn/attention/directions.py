"""Vectors without their lengths, in every type."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def directions(x: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
    """Of length 1, or 0 for a vector of zeros. In float32 or wider.

    In float16 lengths above 65504 are infinite, and the smallest length that `normalize` divides by is 0.
    """
    return normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
