"""Weights of the answers to a question, from their frequency in the training clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import UsageError

ClassWeights = Literal["none", "inverse", "effective"]


def answer_weights(counts: Sequence[int], kind: ClassWeights, beta: float) -> Float[Tensor, " C"]:
    """A weight for each answer to one question, from the number n of training clips with that answer.

    "inverse": 1 / n. "effective": (1 - beta) / (1 - beta^n), the inverse of the effective number of samples (Cui et al.
    2019, eq. 2); beta near 0 gives equal weights, near 1 inverse ones. Both are scaled to a mean of 1 over the training
    clips, so that all questions stay equally important (the paper scales to a mean of 1 over answers). "inverse" is
    then n_clips / (n_answers n), known as balanced. An answer without training clips has weight 1.
    """
    if kind not in get_args(ClassWeights):
        raise UsageError(f"task.class_weights={kind}: expected {', '.join(get_args(ClassWeights))}")
    if not 0 <= beta < 1:
        raise UsageError(f"task.effective_beta={beta}: expected at least 0 and below 1")
    n = torch.tensor(list(counts), dtype=torch.float64)
    if kind == "none" or not (n > 0).any():
        return torch.ones(len(n))
    # beta^n = exp(n log beta); expm1 is exact where beta^n is close to 1
    log_beta = torch.log(torch.tensor(beta, dtype=torch.float64))
    raw = 1 / n if kind == "inverse" else (beta - 1) / torch.expm1(n * log_beta)
    seen = n > 0
    raw = torch.where(seen, raw, 0.0)
    return torch.where(seen, raw * n.sum() / (raw * n).sum(), 1.0).float()
