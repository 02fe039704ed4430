"""Differentiable softmax attention over all keys or over a pattern's blocks, with the mass of each segment of keys.

One pass gives the output, the mass on each segment, and the log-sum-exp; all three carry gradients. Without a gradient
to the mass, the backward is the stock kernel's own, run once over all keys.

Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmattn.attention import gather, merge
from mmattn.attention.interface import Blocks
from mmattn.attention.merge import Piece

Result = tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"], Float[Tensor, "B H Lq"]]


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    keep: Bool[Tensor, "B Lk"] | None,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
) -> Result:
    """Output, mass on each of the `segments` (their lengths; a single one costs nothing) and log-sum-exp.

    `parts` None: every query reads every kept key. Otherwise the blocks' masks say all and `keep` is not looked at.
    """
    with torch.autocast(q.device.type, enabled=False):
        return _Attend.apply(q, k, v, keep, parts, segments, scale)  # type: ignore[return-value]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q, k, v, keep, parts, segments, scale) -> Result:  # type: ignore[override]
        if parts is None:
            mask = None if keep is None else keep[:, None, None, :]
            out, lses = merge.forward(q, k, v, merge.cut(segments, mask), scale)
        else:
            out, lses = gather.forward(q, k, v, parts, segments, scale)
        mass, lse = merge.shares(lses)
        ctx.save_for_backward(q, k, v, keep, out, mass, lse)
        ctx.rest = parts, segments, scale
        ctx.set_materialize_grads(False)
        return out, mass, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out, d_mass, d_lse):  # type: ignore[override]
        q, k, v, keep, out, mass, lse = ctx.saved_tensors
        parts, segments, scale = ctx.rest
        extra = None
        if d_mass is not None or d_lse is not None:
            g = torch.zeros_like(mass) if d_mass is None else d_mass
            mean = (g * mass).sum(dim=-1)
            extra = torch.cat([g, (mean if d_lse is None else mean - d_lse)[..., None]], dim=-1)
        if d_out is None:
            d_out = torch.zeros_like(out)
        if parts is None:
            mask = None if keep is None else keep[:, None, None, :]
            pieces = [Piece(slice(None), mask)] if extra is None else merge.cut(segments, mask)
            grads = merge.backward(d_out, extra, q, k, v, out, lse, pieces, scale)
        else:
            grads = gather.backward(d_out, extra, q, k, v, out, lse, parts, segments, scale)
        return (*grads, None, None, None, None)
