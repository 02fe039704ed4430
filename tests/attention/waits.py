"""What makes the processor wait for a device: reads of a tensor's numbers, and results whose size depends on them.

Counted on the processor, where nothing waits, as they would be on CUDA: through the dispatcher, and for the methods
that read memory without it, by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.allclose}
SIZED_BY_DATA = {
    aten.nonzero, aten.masked_select, aten.unique_consecutive, aten.unique_dim, aten._unique2, aten.bincount,
    aten.argwhere,
}  # fmt: skip
METHODS = ("tolist", "numpy", "cpu", "item", "__array__")


class _Mode(TorchDispatchMode):
    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, kwargs = func.overloadpacket, kwargs or {}
        by_flag = packet in (aten.index, aten.index_put) and any(
            isinstance(x, Tensor) and x.dtype == torch.bool for x in args[1] if x is not None
        )
        repeated = packet is aten.repeat_interleave and kwargs.get("output_size") is None
        if packet in READS or packet in SIZED_BY_DATA or by_flag or repeated:
            self.found[str(packet)] += 1
        return func(*args, **kwargs)


@contextmanager
def host_reads() -> Iterator[Counter]:
    """Which there were inside, by name; the backward is counted too, as it runs in this mode where called here."""
    found: Counter = Counter()
    methods: dict[str, Callable] = {name: getattr(Tensor, name) for name in METHODS}

    def counting(name: str) -> Callable:
        def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if name != "item":  # the dispatcher counts it
                found[name] += 1
            return methods[name](self, *args, **kwargs)

        return method

    try:
        for name in METHODS:
            setattr(Tensor, name, counting(name))
        with _Mode(found):
            yield found
    finally:
        for name, method in methods.items():
            setattr(Tensor, name, method)
