"""How memory grows: every tensor that is alive at once, counted exactly; and what a cost in letters says of it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmattn.attention.interface import Attention, Geometry

HEADS, DIM, RATE = 1, 8, 50.0


class Peak(TorchDispatchMode):
    """Bytes of the storages that operations made and that were alive at once, in the forward and in the backward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self.seen:
                self._add(x.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def peak(attention: Attention, lq: int, lk: int) -> int:
    """Bytes of a forward and backward beside its inputs; one clip of video and audio, of RATE tokens a second."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, n, DIM, generator=generator).requires_grad_() for n in (lq, lk, lk))
    queries, keys = (
        Geometry(
            torch.ones(1, n, dtype=torch.bool),
            (torch.arange(n) % (n // 2) / RATE)[None],
            (("video", n // 2), ("audio", n // 2)),
        )
        for n in (lq, lk)
    )
    with Peak() as counted:
        attention(q, k, v, queries, keys).out.sum().backward()
    return counted.most


def value(cost: str, lq: int, lk: int, **letters: float) -> float:
    """A cost as `mmattn show attention` prints it, e.g. "(Lq + Lk) D + Lq W"; letters without a value count 16."""
    text = re.sub(r"\^", "**", cost.split(",")[0])
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)
    known = {"Lq": lq, "Lk": lk, "D": DIM, "H": HEADS} | letters
    names = set(re.findall(r"[A-Za-z]\w*", text))
    return float(eval(text, {"__builtins__": {}}, {name: known.get(name, 16) for name in names}))
