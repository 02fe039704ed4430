"""Clips of different lengths one by one, on a processor: pairs of which one is padding are not computed at all.

Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.exact.backends import sdpa
from mmattn.attention.interface import Geometry

FEW_PAIRS = 1 << 13  # of a clip: below, the calls cost what they save
WORTH = 0.75  # the largest share of all pairs that is real

Places = slice | Tensor  # of the real tokens of a clip


def possible(q: Tensor, k: Tensor, k_geometry: Geometry) -> bool:
    """Whether to read the lengths: not where a graph is made, a device would be waited for, or clips are short."""
    if q.device.type != "cpu" or k_geometry.keep is None or torch.compiler.is_compiling():
        return False
    return q.shape[0] > 1 and q.shape[2] * k.shape[2] > FEW_PAIRS


def places(q: Tensor, k: Tensor, q_geometry: Geometry, k_geometry: Geometry) -> list[tuple[Places, Places]] | None:
    """Of the real queries and keys of each clip; None where one call with a mask is faster."""
    sides = [
        x.new_ones(x.shape[0], x.shape[2], dtype=torch.bool) if geometry.keep is None else geometry.keep
        for x, geometry in ((q, q_geometry), (k, k_geometry))
    ]
    pairs = (sides[0].sum(dim=1) * sides[1].sum(dim=1)).tolist()
    if not len(pairs) * FEW_PAIRS <= sum(pairs) <= WORTH * len(pairs) * q.shape[2] * k.shape[2]:
        return None
    return [(_places(of_q), _places(of_k)) for of_q, of_k in zip(*sides, strict=True)]


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    of_clips: Sequence[tuple[Places, Places]],
    scale: float,
) -> Float[Tensor, "B H Lq D"]:
    """Softmax attention of the real queries over the real keys; 0 for other queries and where there is no key."""
    outs = []
    for (rows, keys), *own in zip(of_clips, q.split(1), k.split(1), v.split(1), strict=True):
        own_q, own_k, own_v = (_taken(x, at) for x, at in zip(own, (rows, keys, keys), strict=True))
        if own_q.shape[2] and own_k.shape[2]:
            outs.append(_put(sdpa.attend(own_q, own_k, own_v, None, scale), rows, q.shape[2]))
        else:
            outs.append(v.new_zeros(1, q.shape[1], q.shape[2], v.shape[3]))
    return torch.cat(outs)


def _places(keep: Bool[Tensor, " L"]) -> Places:
    at = keep.nonzero()[:, 0]
    first, count = int(at[0]) if len(at) else 0, len(at)
    return slice(first, first + count) if not count or int(at[-1]) == first + count - 1 else at


def _taken(x: Float[Tensor, "1 H L E"], at: Places) -> Float[Tensor, "1 H N E"]:
    return x[:, :, at] if isinstance(at, slice) else x.index_select(2, at)


def _put(x: Float[Tensor, "1 H N D"], at: Places, length: int) -> Float[Tensor, "1 H L D"]:
    """The reverse of `_taken`, with zeros elsewhere."""
    if isinstance(at, slice):
        return pad(x, (0, 0, at.start, length - at.stop))
    return x.new_zeros(*x.shape[:2], length, x.shape[3]).index_copy(2, at, x)
