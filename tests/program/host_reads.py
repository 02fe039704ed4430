"""Counts how often tensors of a training step are read by the processor, each of which a GPU would be waited for."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = ("cpu", "tolist", "numpy", "__array__", "__dlpack__")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")


class HostReads(TorchDispatchMode):
    """What is read from tensors of the step: `found`, the places in mmattn or torch. What was read is the processor's,
    as is what is computed from that alone, and `own`: tensors that stay with the processor on any machine.
    """

    def __init__(self, own: list[Tensor]) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.host = {_storage(tensor) for tensor in own}
        self.kept = list(own)  # so that no storage is another's later
        self.methods = _Methods(self)

    def __enter__(self) -> HostReads:
        self.methods.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.methods.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs))
        if function.overloadpacket.__name__ in WAITING:
            self.read(given)
        result = function(*args, **(kwargs or {}))
        if given and all(_storage(tensor) in self.host for tensor in given):
            self.hold(_tensors(result))
        return result

    def read(self, tensors: list[Tensor]) -> None:
        if any(_storage(tensor) not in self.host for tensor in tensors):
            self.found[_place()] += 1
            self.hold(tensors)

    def hold(self, tensors: list[Tensor]) -> None:
        self.host |= {_storage(tensor) for tensor in tensors}
        self.kept += tensors


class _Methods(TorchFunctionMode):
    """Copies to the processor, which are no operation where the tensor is there already."""

    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        to_host = name == "to" and any(value == "cpu" for value in args[1:] if isinstance(value, str))
        if name in COPIES or to_host:
            self.reads.read(_tensors(args[:1]))
        return function(*args, **(kwargs or {}))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if __file__ != frame.filename]
    return " < ".join(f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno}" for frame in frames[:-7:-1])
