"""Decides whether FlexAttention is used: only if it is faster, and if its results equal those of gathered blocks."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mmattn.attention.exact.backends import flex, trust
from mmattn.attention.exact.backends.flex_kernel import NARROWEST, Key, compiled, key_of
from mmattn.attention.exact.backends.softmax import attend
from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.time_window import TimeWindow

FEW_PAIRS = 1 << 20  # of the whole batch: below, gathering blocks is quicker than FlexAttention's launches
SEGMENTS = (("video", 150), ("audio", 0), ("latent", 5))


def usable(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether FlexAttention is right and faster for these: on CUDA, in a known type, for enough pairs."""
    device, dtype, width, v_width, wants = key_of(q, k, v)
    if device != "cuda" or dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    if q.shape[0] * q.shape[2] * k.shape[2] < FEW_PAIRS:
        return False
    width, v_width = (-(-n // NARROWEST) * NARROWEST for n in (width, v_width))
    return works((device, dtype, width, v_width, wants))


@cache
def works(key: Key, backend: str = "inductor") -> bool:
    """Whether the callable of this key is right: block masks, global tokens, rows without a key, all three gradients.

    Logs a warning if not.
    """
    device, dtype, *_ = key
    warning = f"FlexAttention is not used on this {device} in {dtype}, windows are gathered instead, which is slower"
    return trust.passes(lambda: _try(key, backend), warning)


def _try(key: Key, backend: str) -> None:
    device, dtype, width, v_width, wants = key
    generator = torch.Generator().manual_seed(0)
    lq, lk = 140, sum(count for _, count in SEGMENTS)
    given = [torch.randn(2, 2, n, w, generator=generator) for n, w in ((lq, width), (lk, width), (lk, v_width))]
    keep = torch.rand(2, lk, generator=generator) < 0.9
    keep[1, 150:] = False  # no global key, so that some rows read nothing
    times = [torch.rand(2, n, generator=generator) * 10 for n in (lq, lk)]
    pattern = TimeWindow(2, width, 0.05, 0.02, global_segments=["latent"])
    weigh = torch.randn(2, 2, lq, generator=generator)

    def run(device: str, dtype: torch.dtype, flexed: bool) -> list[Tensor]:
        q, k, v = (x.to(device, dtype).requires_grad_(want) for x, want in zip(rounded, wants, strict=True))
        sides = (
            Geometry(None, times[0].to(device), (("video", 138), ("latent", 2))),
            Geometry(keep.to(device), times[1].to(device), SEGMENTS),
        )
        with torch.set_grad_enabled(any(wants)):
            if flexed:
                windows = flex.plan(pattern, q, k, *sides)
                out, mass, lse = flex.attend(q, k, v, windows, 0.25, compiled(key, backend))
            else:
                out, mass, lse = attend(q, k, v, None, pattern.plan(q, k, *sides), (150, 0, 5), 0.25)
        total = ((out.sum(dim=-1) + mass[..., 0] + lse.clamp(min=-1e9)) * weigh.to(lse)).sum()
        inputs = [x for x in (q, k, v) if x.requires_grad]
        return [out, mass, lse, *(torch.autograd.grad(total, inputs) if inputs else ())]

    rounded = [x.to(dtype) for x in given]
    exact, found = run("cpu", torch.float64, False), run(device, dtype, True)
    trust.check(found, exact, trust.rounding(device, dtype), "block masks")
