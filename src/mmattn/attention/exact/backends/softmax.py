"""Differentiable softmax attention over all keys or over a pattern's blocks, with the mass of each segment of keys.

As an autograd function, and as a custom operator for torch.compile. Shape legend as in interface.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmattn.attention.exact.backends import passes
from mmattn.attention.exact.backends.passes import Result
from mmattn.attention.interface import Blocks


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    keep: Bool[Tensor, "B Lk"] | Bool[Tensor, "B 1 Lq Lk"] | None,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
    with_time: bool = False,
) -> Result:
    """Output, mass on each of the `segments` (their lengths; S = 1 costs nothing) and log-sum-exp, all differentiable.

    `parts` None: every query reads every kept key, or the kept pairs. Otherwise only the blocks' masks count and `keep`
    is ignored. `with_time`: q and k carry their times (timed.py).
    Mass and log-sum-exp are float32 or wider.
    """
    with torch.autocast(q.device.type, enabled=False):
        if torch.compiler.is_compiling():
            blocks = [] if parts is None else [x for part in parts for x in (part.query, part.key, part.mask)]
            beside = "".join("+" if part.beside else "." for part in parts or ())
            per_head = bool(parts) and parts[0].per_head
            return torch.ops.mmattn.attend(q, k, v, keep, blocks, beside, per_head, list(segments), scale, with_time)
        return _Attend.apply(q, k, v, keep, parts, segments, scale, with_time)  # type: ignore[return-value]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keep: Tensor | None,
        parts: Sequence[Blocks] | None,
        segments: tuple[int, ...],
        scale: float,
        with_time: bool,
    ) -> Result:  # type: ignore[override]
        out, mass, lse = passes.forward(q, k, v, keep, parts, segments, scale, with_time)
        ctx.save_for_backward(q, k, v, keep, out, mass, lse)
        ctx.rest = parts, segments, scale, with_time
        ctx.set_materialize_grads(False)
        return out, mass, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor | None, d_mass: Tensor | None, d_lse: Tensor | None) -> tuple:  # type: ignore[override]
        q, k, v, keep, out, mass, lse = ctx.saved_tensors
        return *passes.backward(d_out, d_mass, d_lse, q, k, v, keep, out, mass, lse, *ctx.rest), *[None] * 5


# The same as custom operators, so that torch.compile does not break its graph here.


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
    with_time: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`blocks`: query, key and mask of each part; `beside`: a "+" for parts that are, a "." for others."""
    found = passes.forward(q, k, v, keep, _parts(blocks, beside, per_head), tuple(segments), scale, with_time)
    return tuple(x.contiguous() for x in _apart(found))  # type: ignore[return-value]


@_attend.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    blocks: list[Tensor],
    beside: str,
    per_head: bool,
    segments: list[int],
    scale: float,
    with_time: bool,
) -> tuple[Tensor, Tensor, Tensor]:
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
    with_time: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    parts = _parts(blocks, beside, per_head)
    found = passes.backward(
        d_out, d_mass, d_lse, q, k, v, keep, out, mass, lse, parts, tuple(segments), scale, with_time
    )
    return tuple(x.contiguous() for x in _apart(found))  # type: ignore[return-value]


@_attend_backward.register_fake
def _(
    d_out: Any, d_mass: Any, d_lse: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
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
    return *found, None, [None] * len(blocks), *[None] * 5


_attend.register_autograd(_gradients, setup_context=_setup)
