"""The time window: keys within some seconds of the query, whatever the rates of the streams.

Shape legend as in interface.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmattn.attention.interface import Geometry
from mmattn.attention.patterns.sparse import Windowed
from mmattn.attention.patterns.windows import KeyWindow
from mmattn.types import widest

EDGE_S = 5e-4  # time windows are this much wider on both sides: the rounding of float32 times decides nothing


class TimeWindow(Windowed):
    """A query at time t reads the keys of [t - past_s, t + future_s], whatever the rates of the streams.

    future_s 0 is causal; .inf is no limit. A query whose window holds no real key gives 0. Tokens need not be in the
    order of time. Both sides need times.
    """

    reference = "mmattn"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past_s: float,
        future_s: float,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if not (past_s >= 0 and future_s >= 0):
            raise ValueError(f"past_s={past_s}, future_s={future_s}: expected seconds, 0 or more")
        self.past_s = past_s
        self.future_s = future_s

    def windows(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> tuple[Tensor, list[KeyWindow]]:
        if q_geometry.time is None or k_geometry.time is None:
            raise ValueError("attention=time_window needs the times of queries and keys: pass Geometry(time=...)")
        time = widest(q_geometry.time)
        position = widest(k_geometry.time).masked_fill(~k_local, math.inf)
        low, high = time - self.past_s - EDGE_S, time + self.future_s + EDGE_S
        windows = [KeyWindow(low, high, part) for part in position.split(k_geometry.lengths(k.shape[2]), dim=1)]
        return time.masked_fill(~q_local, math.inf), windows
