"""Keys and values in the order of time, for recurrent networks.

Shape legend as in interface.py; N = H D channels of a token.

"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.order import real, time_order
from mmattn.attention.recurrent.network import GRU


def bidirectional_gru(size: int, state: int) -> GRU:
    """A GRU over [k; v] of `size` channels each, with `state` numbers in both directions together.

    Raises ValueError for an odd state.
    """
    if state < 2 or state % 2:
        raise ValueError(f"attention.state={state}: expected an even number, 2 or more: half of it for each direction")
    return GRU(2 * size, state // 2)


def ordered(k: Tensor, v: Tensor, k_geometry: Geometry) -> tuple[Float[Tensor, "B Lk N"], Int[Tensor, " B"]]:
    """[k; v] of the real keys in the order of time, and their number. A clip without any has one token of zeros."""
    tokens = torch.cat([k, v], dim=1).transpose(1, 2).flatten(2)  # (B, Lk, 2 N)
    keep = real(k_geometry, k)
    tokens = torch.where(keep[..., None], tokens, 0.0)
    tokens = tokens.gather(1, time_order(k_geometry, k)[..., None].expand_as(tokens))
    return tokens, keep.sum(dim=1).clamp(min=1)
