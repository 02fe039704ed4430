"""How often each clip is drawn when rare tags should be seen as often as common ones."""

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
UNTAGGED = ("",)  # clips without tags are balanced as if they had one of their own


def clip_weights(tags: Sequence[Sequence[str]], balance: Balance) -> Float[Tensor, " N"] | None:
    """The chance of each clip in a draw, float64, for the tags of all clips; None when all are alike ("none").

    "class": the sum over a clip's tags of 1 / (clips with that tag), as PSLA and AST do (Gong et al. 2021, both). Where
    each clip has one tag, every tag is then drawn equally often. "sqrt": of 1 / sqrt(clips), half-way there.
    """
    if balance == "none":
        return None
    named = [tuple(dict.fromkeys(names)) or UNTAGGED for names in tags]
    counts = Counter(tag for names in named for tag in names)
    weight = {tag: 1 / (count if balance == "class" else math.sqrt(count)) for tag, count in counts.items()}
    weights = torch.tensor([sum(weight[tag] for tag in names) for names in named], dtype=torch.float64)
    return weights / weights.sum()
