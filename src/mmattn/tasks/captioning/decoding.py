"""Settings of the search for captions, and its result.

Shape legend: B clips, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.errors import UsageError

Method = Literal["greedy", "beam", "sample"]


@dataclass(frozen=True)
class Decoding:
    """Settings of the search for captions. Lengths count tokens, including the end mark.

    method: "greedy"; "beam" (Graves 2012) with `beams` beams; "sample" from the nucleus of probability `top_p` at
    `temperature` (Holtzman et al. 2020), reproducible for a clip id and `seed`. no_repeat_ngram: no n-gram of this
    length occurs twice (Paulus et al. 2018); 0: no limit. If no token is allowed, the caption ends, even before
    `min_length`. length_penalty: beams are ranked by log probability / length ** penalty (after Wu et al. 2016); 0
    favours short ones. length_decay: after this number of tokens the log probability of the end mark is divided by
    `decay_factor` for each further token; None: never.
    """

    method: Method = "beam"
    beams: int = 4
    min_length: int = 1
    max_length: int = 40
    no_repeat_ngram: int = 0
    length_penalty: float = 1.0
    length_decay: int | None = None
    decay_factor: float = 1.2
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"decoding.method={self.method}: expected {', '.join(get_args(Method))}")
        for name, least in (("beams", 1), ("min_length", 1), ("max_length", 1), ("no_repeat_ngram", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"decoding.{name}={getattr(self, name)}: expected {least} or more")
        if self.min_length > self.max_length:
            raise UsageError(f"decoding.min_length={self.min_length}: expected at most max_length={self.max_length}")
        if not 0 < self.top_p <= 1 or not self.temperature > 0 or not self.decay_factor >= 1:
            raise UsageError(
                "decoding: expected top_p in (0, 1], temperature above 0, decay_factor of 1 or more; got "
                f"{self.top_p:g}, {self.temperature:g}, {self.decay_factor:g}"
            )


def changed(decoding: Decoding, changes: Mapping[str, Any]) -> Decoding:
    """`decoding` with some settings changed. Raises UsageError for an unknown setting."""
    names = [field.name for field in fields(Decoding)]
    if unknown := [name for name in changes if name not in names]:
        raise UsageError(f"decoding.{unknown[0]}: no such setting; expected {', '.join(names)}")
    return replace(decoding, **changes)


@dataclass(frozen=True)
class DecodedCaptions:
    """Captions as tokens, with the end mark if there was one, then padding.

    `score`: log probability / length ** length_penalty.
    """

    tokens: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]
    score: Float[Tensor, " B"]
