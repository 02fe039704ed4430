"""Scores that fall with the time between query and key (positions/alibi.py), in every backend for exact attention.

Queries and keys carry their time, in units of their head's seconds, as their first channel; nan for a token to which
time does not apply. The bias of a pair, -|t_q - t_k|, is made for a chunk of pairs at a time, as a mask of numbers.

Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.attention.exact.backends.kernels import HIDDEN
from mmattn.attention.interface import Geometry
from mmattn.attention.order import real, times
from mmattn.attention.positions.interface import geometric

CHUNK_ELEMENTS = 1 << 22  # biases held at once: 16 MiB in float32


def with_time(
    x: Float[Tensor, "B H L E"], geometry: Geometry, range_s: tuple[float, float]
) -> Float[Tensor, "B H L 1+E"]:
    """`x` with its first channel; float32 or wider."""
    exempt, free = geometry.exempt_flags(x), ~real(geometry, x)
    free = free if exempt is None else free | exempt
    time = times(geometry, x).to(x.dtype).masked_fill(free, torch.nan)
    unit = geometric(*range_s, x.shape[1], x.device).to(x.dtype)
    return torch.cat([(time[:, None] / unit[:, None])[..., None], x], dim=-1)


def scaled(q: Float[Tensor, "*B Q 1+E"], scale: float) -> Float[Tensor, "*B Q 1+E"]:
    """`q` times `scale`, without its time."""
    return torch.cat([q[..., :1], q[..., 1:] * scale], dim=-1)


def split(
    q: Float[Tensor, "*B Q 1+E"], k: Float[Tensor, "*B W 1+E"]
) -> tuple[Float[Tensor, "*B Q E"], Float[Tensor, "*B W E"], Float[Tensor, "*B Q W"]]:
    """Queries and keys without their times, and the biases of the pairs."""
    bias = (q[..., :1].detach() - k[..., :1].detach().mT).abs_().neg_().nan_to_num_(nan=0.0)
    return q[..., 1:], k[..., 1:], bias


def masked(
    q: Tensor, k: Tensor, mask: Bool[Tensor, "G #H #Q W"] | None
) -> tuple[Tensor, Tensor, Float[Tensor, "G H Q W"]]:
    """As `split`, with a bias of HIDDEN where a pair is not read."""
    q, k, bias = split(q, k)
    return q, k, bias if mask is None else bias.masked_fill_(~mask, HIDDEN)


def row_chunks(q: Tensor, k: Tensor, mask: Tensor | None) -> Iterator[tuple[slice, Tensor | None]]:
    """Rows of all pairs, in chunks, with their mask."""
    step = max(1, CHUNK_ELEMENTS // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    for at in range(0, q.shape[2], step):
        rows = slice(at, at + step)
        yield rows, mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows]
