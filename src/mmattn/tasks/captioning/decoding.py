"""From next-word probabilities to a caption: greedy, beam and nucleus search, for a whole batch at once.

The searches know a decoder only as a `State` that is fed a token for each row and gives the logits of the next. Clips
that are done leave the state, so that the rest cost less. No loop goes over clips.

Shape legend: B clips, K beams, N = rows under way (clips x beams), T tokens so far, V tokens of the vocabulary.
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
    """How captions are searched for. Lengths count tokens, the end mark included.

    method: "greedy"; "beam" (Graves 2012) with `beams` at once; "sample" from the nucleus of `top_p` of the probability
    at `temperature` (Holtzman et al. 2020), the same for the same clip id and `seed`. no_repeat_ngram: no run of so
    many tokens occurs twice (Paulus et al. 2018); 0 = any may. Where no token may follow, a caption ends, before
    `min_length` if need be. length_penalty: beams of different length compare by log
    probability / length ** penalty (after Wu et al. 2016); 0 favours short ones. length_decay: from this token on the
    end becomes likelier, its log probability divided by `decay_factor` for each further token; null = never.
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
            raise UsageError(f"decoding.min_length={self.min_length} is above max_length={self.max_length}")
        if not 0 < self.top_p <= 1 or not self.temperature > 0 or not self.decay_factor >= 1:
            raise UsageError(
                f"decoding: expected top_p in (0, 1], temperature above 0, decay_factor from 1 on; got {self.top_p:g}, "
                f"{self.temperature:g}, {self.decay_factor:g}"
            )


def changed(decoding: Decoding, changes: Mapping[str, Any]) -> Decoding:
    """`decoding` with some settings changed. Raises UsageError naming one that it does not have."""
    names = [field.name for field in fields(Decoding)]
    if unknown := [name for name in changes if name not in names]:
        raise UsageError(f"decoding.{unknown[0]}: no such setting; there are {', '.join(names)}")
    return replace(decoding, **changes)


@dataclass(frozen=True)
class DecodedCaptions:
    """Captions as tokens, with the end mark where one came, padded at their ends.

    `score`: log probability / length ** length_penalty.
    """

    tokens: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]
    score: Float[Tensor, " B"]
