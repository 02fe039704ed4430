"""Sampling weights that balance rare and common tags."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Balance = Literal["none", "class", "sqrt"]
BALANCES: tuple[Balance, ...] = ("none", "class", "sqrt")
UNTAGGED = ("",)  # clips without tags count as one more tag


def clip_weights(tags: Sequence[Sequence[str]], balance: Balance) -> Float[Tensor, " N"] | None:
    """The probability of each clip (N,) float64 from the tags of all clips; None for equal ones ("none").

    "class": the sum over a clip's tags of 1 / (clips with that tag), as in PSLA and AST (Gong et al. 2021, both). If
    each clip has one tag, all tags are drawn equally often. "sqrt": of 1 / sqrt(clips), which is half-way.
    """
    if balance == "none":
        return None
    named = [tuple(dict.fromkeys(names)) or UNTAGGED for names in tags]
    counts = Counter(tag for names in named for tag in names)
    weight = {tag: 1 / (count if balance == "class" else math.sqrt(count)) for tag, count in counts.items()}
    weights = torch.tensor([sum(weight[tag] for tag in names) for names in named], dtype=torch.float64)
    return weights / weights.sum()
