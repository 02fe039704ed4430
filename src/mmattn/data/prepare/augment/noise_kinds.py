"""The kinds of noise. Needs no torch."""

from __future__ import annotations

from typing import Literal, get_args

NoiseKind = Literal["white", "pink", "babble"]
KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
