"""Attention over all real keys by PyTorch's own kernel, without a mask where all keys are real.

Shape legend as in interface.py.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from mmattn.attention.exact.backends import kernels, trust

WITHOUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attend(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    keep: Bool[Tensor, "B Lk"] | None,
    scale: float,
    cudnn: bool = False,
) -> Float[Tensor, "B H Lq D"]:
    """A query without a key gives 0. `cudnn`: let cuDNN run masked attention on CUDA."""
    width = v.shape[3]
    q, k, v = kernels.same_width(q, k, v)  # else PyTorch takes its slowest kernel
    mask = None if keep is None else keep[:, None, None, :]
    if mask is not None and q.device.type == "cuda" and not cudnn:
        with sdpa_kernel(WITHOUT_CUDNN):
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    else:
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    out = out[..., :width]
    # backends differ on a query without any key
    return out if keep is None else out.masked_fill(~keep.any(dim=1)[:, None, None, None], 0.0)


def attend_pairs(
    q: Float[Tensor, "B H Lq E"],
    k: Float[Tensor, "B H Lk E"],
    v: Float[Tensor, "B H Lk D"],
    pairs: Bool[Tensor, "B 1 Lq Lk"],
    scale: float,
) -> Float[Tensor, "B H Lq D"]:
    """Attention over the pairs that are read. A query without a key gives 0, which `trusted_with_pairs` checks."""
    width = v.shape[3]
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = kernels.same_width(q, k, v)
        return scaled_dot_product_attention(q, k, v, attn_mask=pairs, scale=scale)[..., :width]


@torch.compiler.assume_constant_result
def trusted_with_pairs(device: str, dtype: torch.dtype) -> bool:
    """As `trusted`, for `attend_pairs`."""
    return device == "meta" or _trusted(device, dtype, "a mask of pairs", False)


@torch.compiler.assume_constant_result
def trusted(device: str, dtype: torch.dtype, masked: bool, cudnn: bool) -> bool:
    """Whether this kernel gives the output and the gradients of the definition here. Logs a warning if not."""
    name = "a mask of keys" if masked else "no mask"
    return device == "meta" or _trusted(device, dtype, name, cudnn)  # where there are no numbers


@cache
def _trusted(device: str, dtype: torch.dtype, name: str, cudnn: bool) -> bool:
    def trial() -> None:
        given = trust.sample(dtype)
        mask = given.masks[name]
        exact = kernels.definition(given, mask)
        with torch.autocast(device, enabled=False):
            q, k, v = (x.to(device).requires_grad_() for x in given.inputs)
            if mask is not None and mask.shape[2] > 1:
                out = attend_pairs(q, k, v, mask.to(device), trust.SCALE)
            else:
                out = attend(q, k, v, None if mask is None else mask[:, 0, 0].to(device), trust.SCALE, cudnn)
            found = (out, *torch.autograd.grad(out, (q, k, v), given.d_out.to(device)))
        trust.check(found, (exact[0], *exact[2:]), trust.rounding(device, dtype), name)

    return trust.passes(trial, f"PyTorch's attention on {device} in {dtype} is not used, ours is slower without it")
