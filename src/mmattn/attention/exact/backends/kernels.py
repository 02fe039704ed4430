"""Softmax attention on one block, with its log-sum-exp, forward and backward; no autograd here.

The forward pass returns the log-sum-exp, so that softmax over a union of blocks can be merged from its parts. The
backward pass of a part takes the output and log-sum-exp of the whole. The PyTorch operators that do this are private:
each is used only if it exists and has been checked against the plain formula in this process.

A mask of numbers is added to the scores; HIDDEN or less hides a pair.

Shape legend: G blocks (or clips), H heads, Q queries, W keys, D channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.exact.backends import portable, trust

HIDDEN = portable.HIDDEN
NARROWEST = 8  # channels on a CPU: with 2, the kernel of torch 2.14 reads memory that nothing has written
Mask = Bool[Tensor, "G #H #Q W"] | Float[Tensor, "G #H #Q W"] | None


def forward(
    q: Float[Tensor, "G H Q D"],
    k: Float[Tensor, "G H W D"],
    v: Float[Tensor, "G H W Dv"],
    mask: Mask,
    scale: float,
) -> tuple[Float[Tensor, "G H Q Dv"], Float[Tensor, "G H Q"]]:
    """Attention and the log-sum-exp (float32 or wider) of its scaled scores.

    A query without a key gives out 0 and lse -inf, on every backend: they disagree (0, +inf, -inf).
    """
    if k.shape[2] == 0:
        out, lse = (
            q.new_zeros(*q.shape[:3], v.shape[3]),
            portable.at_least_float32(q.new_empty(q.shape[:3])).fill_(-math.inf),
        )
        return out, lse
    run = {"cpu": _cpu_forward, "cuda": _cuda_forward}[q.device.type] if _fused(q) else portable.forward
    return _forward_by(run, q, k, v, mask, scale)


def _forward_by(
    run: Callable, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    v_width = v.shape[3]
    q, k, v, *_ = same_width(q, k, v)
    out, lse = run(q, k, v, mask, scale)
    out = out[..., :v_width]
    if mask is not None:
        # many times as fast as any()
        empty = mask.view(torch.uint8).amax(dim=-1) == 0 if mask.dtype == torch.bool else mask.amax(dim=-1) <= HIDDEN
        lse.masked_fill_(empty, -math.inf)
        out.masked_fill_(empty[..., None], 0.0)
    return out, lse


def backward(
    d_out: Float[Tensor, "G H Q Dv"],
    q: Float[Tensor, "G H Q D"],
    k: Float[Tensor, "G H W D"],
    v: Float[Tensor, "G H W Dv"],
    out: Float[Tensor, "G H Q Dv"],
    lse: Float[Tensor, "G H Q"],
    mask: Mask,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v in a block whose weights are exp(score - lse), lse being that of the whole softmax.

    `out` is the whole output too. Rows that have no key anywhere (lse -inf) get gradient 0.
    """
    if k.shape[2] == 0:
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    run = {"cpu": _cpu_backward, "cuda": _cuda_backward}[q.device.type] if _fused(q) else portable.backward
    return _backward_by(run, d_out, q, k, v, out, lse, mask, scale)


def _backward_by(
    run: Callable,
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    lse = torch.where(lse == -math.inf, 0.0, lse)  # exp(-inf - 0) is 0, exp(-inf + inf) is not a number
    width, v_width = q.shape[3], v.shape[3]
    q, k, v, d_out, out = same_width(q, k, v, d_out, out)
    d_q, d_k, d_v = run(d_out, q, k, v, out, lse, mask, scale)
    return d_q[..., :width], d_k[..., :width], d_v[..., :v_width]


def common_width(q: Tensor, channels: int) -> int:
    """The common width of q, k and v that the fused kernels need; zero channels change no score and no output."""
    width = max(q.shape[-1], channels)
    if q.device.type == "cuda":
        return -(-width // 8) * 8
    return max(width, NARROWEST) if q.device.type == "cpu" else width


def same_width(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors (..., D), padded by zero channels to `common_width`."""
    width = common_width(tensors[0], max(tensor.shape[-1] for tensor in tensors))
    return tuple(t if t.shape[-1] == width else pad(t, (0, width - t.shape[-1])) for t in tensors)


def _bias(mask: Tensor | None, q: Tensor, w: int) -> Tensor | None:
    if mask is None:
        return None
    if q.device.type == "cuda":  # the kernel reads whole vectors of a row: its start has to be aligned
        mask = pad(mask, (0, -w % 16))
    if mask.dtype == torch.bool:  # 0 or HIDDEN: a tenth of the time of filling in -inf
        mask = mask.view(torch.uint8).to(q.dtype).sub_(1).mul_(-HIDDEN)
    return mask[..., :w].expand(q.shape[0], q.shape[1] if q.device.type == "cuda" else -1, q.shape[2], -1)


def _cpu_forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=_bias(mask, q, k.shape[2]), scale=scale
    )


def _cpu_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        d_out, q, k, v, out, lse, 0.0, False, attn_mask=_bias(mask, q, k.shape[2]), scale=scale
    )


def _cuda_forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    out, lse, _, _ = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, _bias(mask, q, k.shape[2]), True, scale=scale
    )
    return out, lse[..., : q.shape[2]]  # it pads the rows


def _cuda_backward(
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    seed = torch.zeros((), dtype=torch.int64, device=q.device)  # of dropout, which is off
    d_q, d_k, d_v, _ = torch.ops.aten._scaled_dot_product_efficient_attention_backward(
        d_out,
        q,
        k,
        v,
        _bias(mask, q, k.shape[2]),
        out,
        pad(lse, (0, -lse.shape[2] % 32)),
        seed,
        seed,
        0.0,
        [True, True, True, False],
        scale=scale,
    )
    return d_q, d_k, d_v


def _fused(q: Tensor) -> bool:
    return q.shape[2] > 0 and q.device.type in ("cpu", "cuda") and _trusted(q.device.type, q.dtype)


@cache
def _trusted(device: str, dtype: torch.dtype) -> bool:
    """Whether the private operators of this PyTorch give what the plain formula gives in float64, on each mask.

    The softmax is that of these keys and some more: so a row without a key here may have one elsewhere, or none at all.
    """
    fused = (_cpu_forward, _cpu_backward) if device == "cpu" else (_cuda_forward, _cuda_backward)

    def trial() -> None:
        given = trust.sample(dtype)
        for name, mask in given.masks.items():
            q, k, v, d_out = (x.double() for x in (*given.inputs, given.d_out))
            out, lse = _forward_by(portable.forward, q, k, v, mask, trust.SCALE)
            more = torch.linspace(-1, 1, lse.numel(), dtype=lse.dtype).view_as(lse)
            more[..., ::2] = -math.inf  # nothing elsewhere
            whole = torch.logaddexp(lse, more)
            share = torch.exp(lse - torch.where(whole.isneginf(), 0.0, whole))
            whole_out = out * share[..., None]
            gradients = _backward_by(portable.backward, d_out, q, k, v, whole_out, whole, mask, trust.SCALE)
            q, k, v, d_out, whole_out = (x.to(device, dtype) for x in (q, k, v, d_out, whole_out))
            whole = whole.to(device, torch.promote_types(dtype, torch.float32))
            kept = None if mask is None else mask.to(device)
            found = _forward_by(fused[0], q, k, v, kept, trust.SCALE)
            slopes = _backward_by(fused[1], d_out, q, k, v, whole_out, whole, kept, trust.SCALE)
            trust.check((*found, *slopes), (out, lse, *gradients), trust.rounding(device, dtype), name)

    return trust.passes(trial, f"attention on {device} in {dtype} runs in plain PyTorch, which is slower")


def definition(given: trust.TrialInputs, mask: Tensor | None) -> tuple[Tensor, ...]:
    """Output, log-sum-exp and the gradients of q, k and v in float64, on the CPU."""
    q, k, v, d_out = (x.double() for x in (*given.inputs, given.d_out))
    out, lse = _forward_by(portable.forward, q, k, v, mask, trust.SCALE)
    return out, lse, *_backward_by(portable.backward, d_out, q, k, v, out, lse, mask, trust.SCALE)
