"""The dilated window: every n-th neighbour by place.

Shape legend as in interface.py.

"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmattn.attention.interface import Blocks, Geometry
from mmattn.attention.patterns.places import Places
from mmattn.attention.patterns.sparse import Sparse
from mmattn.attention.patterns.windows import KeyWindow, window_parts


class DilatedWindow(Sparse):
    """A sliding window over every `dilation`-th place: those j for which i - j is a multiple of it.

    `past` and `future` count the keys that are read. (Beltagy et al. 2020, Longformer, section 3.1.)
    """

    merges = True
    by_vectors = False
    reference = "Beltagy et al. 2020"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        past: int,
        future: int,
        dilation: int,
        global_tokens: int = 0,
        global_segments: Sequence[str] = (),
    ) -> None:
        super().__init__(heads, head_dim, global_tokens, global_segments)
        if past < 0 or future < 0 or dilation < 1:
            raise ValueError(f"past={past}, future={future}, dilation={dilation}: expected 0, 0 and 1 or more")
        self.past = past * dilation
        self.future = future * dilation
        self.dilation = dilation

    def local(
        self,
        q: Tensor,
        k: Tensor,
        q_geometry: Geometry,
        k_geometry: Geometry,
        q_local: Tensor,
        k_local: Tensor,
    ) -> list[Blocks]:
        places = Places(q, k, q_geometry, k_geometry, k_local)
        far = float(k.shape[2] + self.past + self.future)  # sorted by residue first, a window holds one residue only
        requests = []
        for segment, (at, key) in enumerate(zip(places.aligned, places.keys, strict=True)):
            at = at + far * (at % self.dilation)
            key = key + far * (key % self.dilation).nan_to_num(0.0)
            windows = places.only(segment, KeyWindow(at - self.past, at + self.future, key))
            requests.append((at.masked_fill(~q_local, math.inf), windows))
        return window_parts(requests)

    def beside(self, segments: int) -> list[bool]:
        return [False, True] * segments
