"""The interface of every fusion strategy."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn.functional import pad

from mmattn.types import Fused, Tokens, once


class Fusion(nn.Module):
    """Takes two streams of tokens and returns the fused streams. Either stream may be missing in any clip.

    `weighs`: what its statistics are shares of, where it has a weighting of one part against another at all.
    `one_graph`: torch.compile makes one graph of it, without a break.
    `reference`: where the strategy comes from, for `mmattn show fusion`.
    """

    weighs: ClassVar[Literal["attention", "gate"] | None] = "attention"
    one_graph: ClassVar[bool] = True
    reference: ClassVar[str]

    def forward(self, video: Tokens, audio: Tokens, stats: frozenset[str] = frozenset()) -> Fused:
        """The fused streams. The contents of padding, also nan, change nothing."""
        fused = self.fuse(_prepared(video), _prepared(audio), stats)
        return Fused(_as_given(fused.video, video), _as_given(fused.audio, audio), fused.stats)

    @abstractmethod
    def fuse(self, video: Tokens, audio: Tokens, stats: frozenset[str]) -> Fused:
        """What `forward` gives for streams of one or more tokens; values and times are 0 in padding."""


def _prepared(tokens: Tokens) -> Tokens:
    """Zeros in padding; a stream without any token has one of padding."""
    if tokens.full and tokens.keep.shape[1]:
        return tokens

    def places() -> Tokens:
        short = int(not tokens.keep.shape[1])
        keep, times = pad(tokens.keep, (0, short)), pad(tokens.times, (0, short))
        times = times.masked_fill(~keep, 0.0)
        return Tokens(times[..., None], keep, times)

    made = once(tokens.memo, ("prepared",), places)
    values = tokens.values if tokens.keep.shape[1] else pad(tokens.values, (0, 0, 0, 1))
    return made.with_values(torch.where(made.keep[..., None], values, 0.0))


def _as_given(fused: Tokens, given: Tokens) -> Tokens:
    """`fused` at the places and times of `given`, from which it was prepared."""
    return given.with_values(fused.values[:, : given.keep.shape[1]])
