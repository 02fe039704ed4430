"""The sliding window: neighbours by place.

Shape legend as in interface.py.

"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.places import Places
from mmattn.attention.patterns.sparse import Windowed
from mmattn.attention.patterns.windows import KeyWindow


class SlidingWindow(Windowed):
    """A query at place i reads the keys of the places i - past ... i + future of each segment.

    Places are rounded where segments differ in number. (Beltagy et al. 2020, Longformer, section 3.1; with global
    tokens, its global + local attention.)
    """

    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0:
            raise ValueError(f"past={past}, future={future}: expected numbers of tokens, 0 or more")
        self.past = past
        self.future = future

    def windows(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> tuple[Tensor, list[KeyWindow]]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        windows = [
            KeyWindow(at - self.past, at + self.future, key)
            for at, key in zip(places.aligned, places.keys, strict=True)
        ]
        return places.query.masked_fill(~q_local, math.inf), windows
