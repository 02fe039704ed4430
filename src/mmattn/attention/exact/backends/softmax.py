"""Differentiable softmax attention over all keys or over a pattern's blocks, with the mass of each segment of keys.

Mass is read off the log-sum-exp of each segment where all keys are read, and off indicator channels of the values where
blocks are gathered (a few channels cost less there than cutting small blocks in two). Either way a gradient to the mass
is one to indicator channels, and without one the backward is the stock kernel's own.

Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmattn.attention.exact.backends import gather, kernels
from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.interface import Blocks
from mmattn.attention.statistics import one_hot

Result = tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"], Float[Tensor, "B H Lq"]]


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    keep: Bool[Tensor, "B Lk"] | Bool[Tensor, "B 1 Lq Lk"] | None,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
) -> Result:
    """Output, mass on each of the `segments` (their lengths; S = 1 costs nothing) and log-sum-exp, all differentiable.

    `parts` None: every query reads every kept key, or the kept pairs. Otherwise the blocks' masks say all and `keep` is
    not looked at.
    Mass and log-sum-exp are float32 or wider.
    """
    with torch.autocast(q.device.type, enabled=False):
        if torch.compiler.is_compiling():
            blocks = [] if parts is None else [x for part in parts for x in (part.query, part.key, part.mask)]
            beside = "".join("+" if part.beside else "." for part in parts or ())
            per_head = bool(parts) and parts[0].per_head
            return torch.ops.mmattn.attend(q, k, v, keep, blocks, beside, per_head, list(segments), scale)
        return _Attend.apply(q, k, v, keep, parts, segments, scale)  # type: ignore[return-value]


def indicators(
    k: Float[Tensor, "B H Lk E"], segments: tuple[int, ...], dtype: torch.dtype
) -> Float[Tensor, "B H Lk S"]:
    """1 in the channel of a key's segment."""
    return one_hot(segments, dtype, k.device).expand(*k.shape[:2], -1, -1)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q, k, v, keep, parts, segments, scale) -> Result:  # type: ignore[override]
        out, mass, lse = _forward(q, k, v, keep, parts, segments, scale)
        ctx.save_for_backward(q, k, v, keep, out, mass, lse)
        ctx.rest = parts, segments, scale
        ctx.set_materialize_grads(False)
        return out, mass, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out, d_mass, d_lse):  # type: ignore[override]
        q, k, v, keep, out, mass, lse = ctx.saved_tensors
        return *_backward(d_out, d_mass, d_lse, q, k, v, keep, out, mass, lse, *ctx.rest), None, None, None, None


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
) -> Result:
    if parts is None:
        return _by_segment(q, k, v, _mask(keep), segments, scale)
    if len(segments) == 1:
        out, lse = gather.forward(q, k, (v,), parts, scale)
        return out, lse.isfinite().to(lse.dtype)[..., None], lse
    both, lse = gather.forward(q, k, (v, indicators(k, segments, v.dtype)), parts, scale)
    return both[..., : v.shape[3]], both[..., v.shape[3] :].to(lse.dtype), lse


def _backward(
    d_out: Tensor | None,
    d_mass: Tensor | None,
    d_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    out: Tensor,
    mass: Tensor,
    lse: Tensor,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if d_out is None:
        d_out = torch.zeros_like(out)
    # The kernels give a score the gradient weight * (d_out . v - d_out . out). With the indicators as channels of
    # v, that holds for mass as for out; and a channel that is 0 in v and -d_lse in out adds weight * d_lse.
    d_outs, values, outs = [d_out], [v], [out]
    if d_mass is not None:
        d_outs.append(d_mass.to(out.dtype))
        values.append(indicators(k, segments, v.dtype))
        outs.append(mass.to(out.dtype))
    if d_lse is not None:
        d_outs.append(torch.ones_like(out[..., :1]))
        values.append(torch.zeros_like(v[..., :1]))
        outs.append(-d_lse[..., None].to(out.dtype))
    if parts is None:
        mask = _mask(keep)
        d_out, v_all, out = (x[0] if len(x) == 1 else torch.cat(x, dim=-1) for x in (d_outs, values, outs))
        d_q, d_k, d_v = kernels.backward(d_out, q, k, v_all, out, lse, mask, scale)
    else:
        d_q, d_k, d_v = gather.backward(d_outs, q, k, values, outs, lse, parts, scale)
    return d_q, d_k, d_v[..., : v.shape[3]]


def _mask(keep: Tensor | None) -> Tensor | None:
    return keep if keep is None or keep.dim() == 4 else keep[:, None, None, :]


def _by_segment(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: tuple[int, ...], scale: float
) -> Result:
    masks = [None] * len(segments) if mask is None else mask.split(segments, dim=-1)
    keys, values = k.split(segments, dim=2), v.split(segments, dim=2)
    found = [kernels.forward(q, *given, scale) for given in zip(keys, values, masks, strict=True)]
    return merge([out for out, _ in found], [lse for _, lse in found])


# The same as operators, which a compiler takes as they are: graphs do not break in them.


@torch.library.custom_op("mmattn::attend", mutates_args=())
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    blocks: list[Tensor],
    beside: str,
    per_head: bool,
    segments: list[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`blocks`: query, key and mask of each part; `beside`: a "+" for parts that are, a "." for others."""
    found = _forward(q, k, v, keep, _parts(blocks, beside, per_head), tuple(segments), scale)
    return tuple(x.contiguous() for x in _apart(found))  # type: ignore[return-value]


@_attend.register_fake
def _(q, k, v, keep, blocks, beside, per_head, segments, scale) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(v.dtype, torch.float32)
    rows = q.shape[:3]
    return (
        v.new_empty(*rows, v.shape[3]),
        q.new_empty(*rows, len(segments), dtype=wide),
        q.new_empty(rows, dtype=wide),
    )


@torch.library.custom_op("mmattn::attend_backward", mutates_args=())
def _attend_backward(
    d_out: Tensor,
    d_mass: Tensor | None,
    d_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    out: Tensor,
    mass: Tensor,
    lse: Tensor,
    blocks: list[Tensor],
    beside: str,
    per_head: bool,
    segments: list[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    parts = _parts(blocks, beside, per_head)
    found = _backward(d_out, d_mass, d_lse, q, k, v, keep, out, mass, lse, parts, tuple(segments), scale)
    return tuple(x.contiguous() for x in _apart(found))  # type: ignore[return-value]


@_attend_backward.register_fake
def _(d_out, d_mass, d_lse, q, k, v, *rest) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _parts(blocks: list[Tensor], beside: str, per_head: bool) -> list[Blocks] | None:
    """What has blocks; None for all pairs."""
    fields = (blocks[3 * i : 3 * i + 3] for i in range(len(beside)))
    parts = [Blocks(*each, per_head=per_head, beside=sign == "+") for each, sign in zip(fields, beside, strict=True)]
    return [part for i, part in enumerate(parts) if not i or len(part.query)] or None


def _apart(found: tuple[Tensor, ...]) -> list[Tensor]:
    """Results of an operator may not share memory."""
    seen: set[int] = set()
    apart = []
    for x in found:
        place = x.untyped_storage().data_ptr()
        apart.append(x.clone() if place in seen else x)
        seen.add(place)
    return apart


def _setup(ctx: Any, inputs: tuple, output: tuple) -> None:
    q, k, v, keep, blocks, *ctx.rest = inputs
    ctx.count = len(blocks)
    ctx.save_for_backward(q, k, v, keep, *output, *blocks)


def _gradients(ctx: Any, d_out: Tensor, d_mass: Tensor | None, d_lse: Tensor | None) -> tuple:
    saved = ctx.saved_tensors
    blocks = list(saved[7:])
    d_mass = None if len(ctx.rest[2]) == 1 else d_mass  # of a single segment it is 1, or 0 without a key
    found = torch.ops.mmattn.attend_backward(d_out, d_mass, d_lse, *saved[:7], blocks, *ctx.rest)
    return *found, None, [None] * len(blocks), None, None, None, None


_attend.register_autograd(_gradients, setup_context=_setup)
