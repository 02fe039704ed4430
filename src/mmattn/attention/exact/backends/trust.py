"""Checks once whether a fused operator is right on this device: on a small problem, against float64, before it is used.

The problem contains the cases that fail in practice: rows without any key (backends disagree on them), a clip without
keys, lengths that are not a multiple of a tile, and a log-sum-exp over more keys than those of the problem.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

LQ, LK, WIDTH, SCALE = 65, 192, 16, 0.3  # some versions of cuDNN are wrong at lengths of 64 more than a multiple of 128
TF32_ROUNDING = 2.0**-10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialInputs:
    """Inputs in the type to be checked, on the CPU; masks None, of keys, and of pairs."""

    q: Float[Tensor, "2 2 Lq D"]
    k: Float[Tensor, "2 2 Lk D"]
    v: Float[Tensor, "2 2 Lk D"]
    d_out: Float[Tensor, "2 2 Lq D"]
    masks: dict[str, Bool[Tensor, "2 1 #Lq Lk"] | None]

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v, in the order in which operators take them."""
        return self.q, self.k, self.v


def sample(dtype: torch.dtype) -> TrialInputs:
    """The first clip has some keys, the second none; of the pairs, some rows of either have none."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, d_out = (torch.randn(2, 2, n, WIDTH, generator=generator).to(dtype) for n in (LQ, LK, LK, LQ))
    keys = torch.rand(2, 1, 1, LK, generator=generator) < 0.7
    keys[1] = False
    pairs = torch.rand(2, 1, LQ, LK, generator=generator) < 0.3
    pairs[:, :, ::7] = False
    return TrialInputs(q, k, v, d_out, {"no mask": None, "a mask of keys": keys, "a mask of pairs": pairs})


def rounding(device: str, dtype: torch.dtype) -> float:
    """The relative error of one operation; on CUDA a product of float32 may be rounded to TF32 first."""
    return TF32_ROUNDING if device == "cuda" and dtype == torch.float32 else torch.finfo(dtype).eps


def check(found: Sequence[Tensor], exact: Sequence[Tensor], unit: float, what: str) -> None:
    """Raises AssertionError naming `what` where a result is not a number or too far from the exact one.

    The error may be 4 units of rounding of the norm, and 32 of the largest number in any one place.
    """
    for ours, theirs in zip(found, exact, strict=True):
        ours, theirs = ours.detach().double().cpu(), theirs.detach().double()
        empty = theirs.isneginf()  # of a log-sum-exp
        if not torch.equal(ours.isneginf(), empty):
            raise AssertionError(f"wrong with {what}: a row without keys is treated as if it had some")
        ours, theirs = ours.masked_fill(empty, 0.0), theirs.masked_fill(empty, 0.0)
        error = ours - theirs
        mean, worst = error.norm() / theirs.norm(), error.abs().max() / theirs.abs().max()
        if not (mean <= 4 * unit and worst <= 32 * unit):  # false for what is not a number, too
            raise AssertionError(f"wrong with {what}: errors of {float(mean):.1e} and up to {float(worst):.1e}")


def passes(trial: Callable[[], None], warning: str) -> bool:
    """Whether the check passes, in any mode of the caller (no gradient, fake tensors). Warns if not."""
    try:
        with (
            warnings.catch_warnings(),
            _disable_current_modes(),
            torch.device("cpu"),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")  # a compiler's remarks are no failure
            trial()
    except Exception as error:  # operators and compilers fail in many ways, all of which leave the other path
        log.warning("%s: %s", warning, (str(error).strip() or type(error).__name__).splitlines()[0])
        return False
    return True
