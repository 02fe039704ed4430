"""Forward and backward pass of softmax attention over all keys or a pattern's blocks; no autograd here (softmax.py).

If all keys are read, mass follows from the log-sum-exp of each segment. If blocks are gathered, it comes from indicator
channels of the values, because a few channels cost less there than splitting small blocks. In the backward pass, a
gradient to the mass is a gradient to indicator channels; without one, the kernel's own backward pass is used.

Shape legend as in interface.py.

"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from mmattn.attention.exact.backends import gather, kernels, timed
from mmattn.attention.exact.backends.merge import merge
from mmattn.attention.interface import Blocks
from mmattn.attention.statistics import one_hot

Result = tuple[Float[Tensor, "B H Lq D"], Float[Tensor, "B H Lq S"], Float[Tensor, "B H Lq"]]


def indicators(
    k: Float[Tensor, "B H Lk E"], segments: tuple[int, ...], dtype: torch.dtype
) -> Float[Tensor, "B H Lk S"]:
    """1 in the channel of a key's segment."""
    return one_hot(segments, dtype, k.device).expand(*k.shape[:2], -1, -1)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None,
    parts: Sequence[Blocks] | None,
    segments: tuple[int, ...],
    scale: float,
    with_time: bool,
) -> Result:
    """Output, mass and log-sum-exp, as of softmax.attend."""
    if parts is None and with_time:
        return _timed_by_segment(q, k, v, _mask(keep), segments, scale)
    if parts is None:
        return _by_segment(q, k, v, _mask(keep), segments, scale)
    if len(segments) == 1:
        out, lse = gather.forward(q, k, (v,), parts, scale, with_time)
        return out, lse.isfinite().to(lse.dtype)[..., None], lse
    both, lse = gather.forward(q, k, (v, indicators(k, segments, v.dtype)), parts, scale, with_time)
    return both[..., : v.shape[3]], both[..., v.shape[3] :].to(lse.dtype), lse


def backward(
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
    with_time: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. A gradient that is None is 0."""
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
        run = _timed_backward if with_time else kernels.backward
        d_q, d_k, d_v = run(d_out, q, k, v_all, out, lse, mask, scale)
    else:
        d_q, d_k, d_v = gather.backward(d_outs, q, k, values, outs, lse, parts, scale, with_time)
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


def _timed_by_segment(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: tuple[int, ...], scale: float
) -> Result:
    found = [
        _by_segment(own_q, own_k, v, bias, segments, scale)
        for own_q, own_k, bias in (timed.masked(q[:, :, rows], k, own) for rows, own in timed.row_chunks(q, k, mask))
    ]
    out, mass, lse = (torch.cat(side, dim=2) for side in zip(*found, strict=True))
    return out, mass, lse


def _timed_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    d_qs, d_k, d_v = [], torch.zeros_like(k[..., 1:]), torch.zeros_like(v)
    for rows, own in timed.row_chunks(q, k, mask):
        own_q, own_k, bias = timed.masked(q[:, :, rows], k, own)
        own_d_out, own_out, own_lse = (x[:, :, rows] for x in (d_out, out, lse))
        found = kernels.backward(own_d_out, own_q, own_k, v, own_out, own_lse, bias, scale)
        d_qs.append(found[0])
        d_k += found[1]
        d_v += found[2]
    return pad(torch.cat(d_qs, dim=2), (1, 0)), pad(d_k, (1, 0)), d_v
