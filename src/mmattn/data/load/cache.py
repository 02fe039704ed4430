"""What a data set remembers of its clips: which were read, which failed, and prepared samples as far as they fit.

The memory is shared by the loader processes that are forked from this one, so a clip read by any of them is kept for
all. Where processes are not forked (macOS, Windows; spawn, forkserver) each loader process keeps no samples, and
remembers for itself what it tried, beside what was known to be bad when it started.
"""

from __future__ import annotations

import mmap
from dataclasses import fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmattn.errors import UsageError

UNTRIED, READ, KEPT, FAILED, EXCLUDED = range(5)  # EXCLUDED: known to be unreadable before it was tried
_ALIGN = 16  # bytes

Sample = TypeVar("Sample")


class ClipCache(Generic[Sample]):
    """States and durations of `rows` clips; the samples of the first of them, as many as `max_bytes` hold.

    `bad`: states to begin with. All samples have the fields, shapes and types of `template`, a dataclass of tensors and
    whole numbers. Memory is taken as it is written to. A sample is read in another epoch than it was written in, and
    the loader's processes speak with each other in between, so there is no lock.
    """

    def __init__(self, rows: int, template: Sample, max_bytes: int, bad: np.ndarray | None = None) -> None:
        self.template = template
        self._layout, size = _layout(template)
        self.places = min(rows, max_bytes // size)
        self._size = size
        try:
            self.state = np.frombuffer(mmap.mmap(-1, max(rows, 1)), np.uint8)[:rows]
            self.duration = np.frombuffer(mmap.mmap(-1, max(rows, 1) * 8), np.float64)[:rows]  # s, 0 = unknown
            self._memory = torch.frombuffer(mmap.mmap(-1, max(self.places, 1) * size), dtype=torch.uint8)
        except OSError:
            wanted = self.places * size >> 20
            raise UsageError(f"{wanted} MiB of memory for clips cannot be had; lower data.cache_gb") from None
        if bad is not None:
            self.state[:] = bad

    def get(self, index: int) -> Sample | None:
        """The sample, not copied: nobody may write to it."""
        if self.state[index] != KEPT:
            return None
        numbers = {name for name, value in vars(self.template).items() if isinstance(value, int)}
        return type(self.template)(
            **{name: int(view) if name in numbers else view for name, view in self._views(index)}
        )

    def keep(self, index: int, sample: Sample) -> None:
        """Note that the clip was read, and keep its sample if it has a place."""
        if index < self.places:
            for name, view in self._views(index):
                view.copy_(torch.as_tensor(getattr(sample, name)))
        self.state[index] = KEPT if index < self.places else READ

    def is_bad(self, index: int) -> bool:
        return self.state[index] >= FAILED

    def _views(self, index: int) -> list[tuple[str, Tensor]]:
        whole = self._memory[index * self._size : (index + 1) * self._size]
        return [(name, whole[at : at + size].view(kind).view(shape)) for name, at, size, kind, shape in self._layout]

    def __reduce__(self) -> Any:
        return ClipCache, (len(self.state), self.template, 0, np.where(self.state >= FAILED, self.state, UNTRIED))


def _layout(template: Any) -> tuple[list[tuple[str, int, int, torch.dtype, torch.Size]], int]:
    """Where each field of a sample lies, and the bytes of a whole one."""
    layout, at = [], 0
    for field in fields(template):
        tensor = torch.as_tensor(getattr(template, field.name))
        layout.append((field.name, at, tensor.nbytes, tensor.dtype, tensor.shape))
        at += -(-tensor.nbytes // _ALIGN) * _ALIGN
    return layout, max(at, 1)
