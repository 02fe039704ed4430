"""alpha-entmax and sparsemax: weights that can be exactly 0. With any pattern that reads each query's keys at once.

Shape legend as in interface.py; R rows of N scores.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from mmattn.attention.interface import Normaliser

STEPS = 12  # of Newton's method
FEW = 4
TILE_ELEMENTS = 1 << 18  # what a processor's cache holds


class Entmax(Normaliser):
    """alpha-entmax: like softmax, but with exact zeros (Peters et al. 2019); alpha 2 is sparsemax, towards 1 softmax.

    `learned`: each head learns its alpha between 1 and 2 (Correia et al. 2019), from `alpha` on.
    """

    reference = "Peters et al. 2019"

    def __init__(self, heads: int, head_dim: int, alpha: float, learned: bool) -> None:
        super().__init__(heads, head_dim)
        if not 1 < alpha <= 2 or (learned and alpha == 2):
            raise ValueError(
                f"attention.normaliser.alpha={alpha}: expected 1 < alpha <= 2, below 2 where it is learned"
            )
        self.alpha = alpha
        self.logit = nn.Parameter(torch.full((heads, 1, 1), alpha - 1).logit()) if learned else None
        if alpha == 2:
            self.reference = "Martins & Astudillo 2016"

    def forward(self, scores: Float[Tensor, "*G H Q W"], mask: Bool[Tensor, "*G #H #Q W"]) -> Float[Tensor, "*G H Q W"]:
        wide = torch.promote_types(scores.dtype, torch.float32)
        alpha = self.alpha if self.logit is None else 1 + torch.sigmoid(self.logit.to(wide))
        return entmax(scores.to(wide).masked_fill(~mask, torch.finfo(wide).min / 4), alpha) * mask


def entmax(scores: Float[Tensor, "*B N"], alpha: float | Float[Tensor, "*#B 1"]) -> Float[Tensor, "*B N"]:
    """p_i = max(0, (alpha - 1) score_i - tau)^(1 / (alpha - 1)), tau so that p sums to 1 (Peters et al. 2019, eq. 10).

    Exact to rounding; gradients reach `alpha` too, if it is a tensor.
    """
    if isinstance(alpha, Tensor):
        alpha = alpha.expand(*scores.shape[:-1], 1).reshape(-1, 1)
    return _Entmax.apply(scores.flatten(0, -2), alpha).view(scores.shape)  # type: ignore[union-attr]


class _Entmax(torch.autograd.Function):
    """Of rows (R, N) and alpha or (R, 1) alphas. Some rows at a time: what is computed of them stays in the cache."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, alpha: Tensor | float) -> Tensor:  # type: ignore[override]
        p = torch.empty_like(scores)
        for rows in _some_rows(scores):
            of_rows = _of(alpha, rows)
            x = (scores[rows] - scores[rows].amax(dim=-1, keepdim=True)).mul_(of_rows - 1)
            p[rows] = _power(_above_threshold(x, of_rows), of_rows)
        ctx.save_for_backward(p, *([alpha] if isinstance(alpha, Tensor) else []))
        ctx.alpha = None if isinstance(alpha, Tensor) else alpha
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        """Correia et al. 2019, proposition 1."""
        p_all, *alphas = ctx.saved_tensors
        alpha = alphas[0] if alphas else ctx.alpha
        d_scores, d_alpha = torch.empty_like(p_all), torch.empty_like(p_all[:, :1])
        for rows in _some_rows(p_all):
            p, g, of_rows = p_all[rows], slope[rows], _of(alpha, rows)
            s = _slope_of(p, of_rows)
            total = s.sum(dim=-1, keepdim=True)
            mean = torch.linalg.vecdot(g, s)[:, None] / total
            torch.sub(g, mean, out=d_scores[rows]).mul_(s)
            if ctx.needs_input_grad[1]:
                entropy = -torch.xlogy(p, p)
                by_alpha = (g * p).sum(dim=-1, keepdim=True) - mean
                by_entropy = (g * entropy).sum(dim=-1, keepdim=True) - mean * entropy.sum(dim=-1, keepdim=True)
                d_alpha[rows] = by_alpha / (of_rows - 1) ** 2 + by_entropy / (of_rows - 1)
        return d_scores, d_alpha if ctx.needs_input_grad[1] else None


def _some_rows(x: Float[Tensor, "R N"]) -> list[slice]:
    step = max(1, TILE_ELEMENTS // max(1, x.shape[1])) if x.device.type == "cpu" else max(1, len(x))
    return [slice(at, at + step) for at in range(0, len(x), step)]


def _of(alpha: Tensor | float, rows: slice) -> Tensor | float:
    return alpha[rows] if isinstance(alpha, Tensor) else alpha


def _slope_of(p: Tensor, alpha: Tensor | float) -> Tensor:
    """p^(2 - alpha), 0 where p is."""
    if isinstance(alpha, float) and alpha in (1.5, 2.0):
        return p.sqrt() if alpha == 1.5 else p.sign()
    return p.pow(2 - alpha)


def _power(gap: Tensor, alpha: Tensor | float, less: int = 0) -> Tensor:
    """gap^(1 / (alpha - 1) - less), without a general power where alpha is 2 or 3/2; 0^0 = 0."""
    if isinstance(alpha, float) and alpha in (1.5, 2.0):
        power = round(1 / (alpha - 1)) - less
        return gap.sign() if power == 0 else gap if power == 1 else gap * gap
    return gap.pow(1 / (alpha - 1) - less)


def _above_threshold(x: Float[Tensor, "R N"], alpha: Tensor | float) -> Float[Tensor, "R N"]:
    """max(0, x - tau), for x with maximum 0 in each row.

    With r = 1 / (alpha - 1), tau is where the r-norm of max(0, x - tau) is 1. The norm is convex and falls with tau, by
    1 for each 1 if one entry is left: Newton's method from tau = -1, where it is at least 1, never overshoots. It takes
    up to 12 steps; from the threshold of the largest of every FEW entries, which no row's own lies below, up to 5. The
    number of steps is fixed: to ask whether they have met would make the processor wait for the device.
    """
    tau = torch.full_like(x[:, :1], -1.0)
    if x.shape[1] >= 4 * FEW:
        largest = pad(x, (0, -x.shape[1] % FEW), value=-2.0).unflatten(1, (FEW, -1)).amax(dim=1)
        tau = _newton(x, _newton(largest, tau, alpha, STEPS), alpha, STEPS // 2)
    else:
        tau = _newton(x, tau, alpha, STEPS)
    return torch.sub(x, tau).clamp_(min=0)


def _newton(x: Float[Tensor, "R N"], tau: Float[Tensor, "R 1"], alpha: Tensor | float, steps: int) -> Tensor:
    gap = torch.empty_like(x)
    for _ in range(steps):
        torch.sub(x, tau, out=gap).clamp_(min=0)
        total = _power(gap, alpha).sum(dim=-1, keepdim=True)
        norm = total ** (alpha - 1)
        tau = tau + (norm - 1) * total / (norm * _power(gap, alpha, less=1).sum(dim=-1, keepdim=True))
    return tau
