"""A cache of a data set's clips: which were read, which failed, and as many prepared samples as fit.

The memory is shared with forked loader processes, so a clip read by one of them is cached for all. Where processes are
not forked (macOS, Windows; spawn, forkserver), a loader process caches no samples and only knows which clips it tried
itself and which were bad when it started.
"""

from __future__ import annotations

import mmap
from dataclasses import fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmattn.errors import UsageError

UNTRIED, READ, KEPT, FAILED, EXCLUDED = range(5)  # EXCLUDED: known to be unreadable before this run tried it
_ALIGN = 16  # bytes

Sample = TypeVar("Sample")


class ClipCache(Generic[Sample]):
    """States and durations of `rows` clips, and the samples of the first clips, as many as fit into `max_bytes`.

    `bad`: initial states. All samples have the fields, shapes and types of `template`, a dataclass of tensors and ints.
    Memory is used as samples are written. A sample is never read in the epoch in which it is written, and the loader
    processes synchronise between epochs, so there is no lock.
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
            raise UsageError(f"cannot allocate {wanted} MiB for cached clips; lower data.cache_gb") from None
        if bad is not None:
            self.state[:] = bad

    def get(self, index: int) -> Sample | None:
        """The cached sample, or None. It shares the cache's memory: do not write to it."""
        if self.state[index] != KEPT:
            return None
        numbers = {name for name, value in vars(self.template).items() if isinstance(value, int)}
        return type(self.template)(
            **{name: int(view) if name in numbers else view for name, view in self._views(index)}
        )

    def keep(self, index: int, sample: Sample) -> None:
        """Record that the clip was read, and store its sample if it has a place."""
        if index < self.places:
            for name, view in self._views(index):
                view.copy_(torch.as_tensor(getattr(sample, name)))
        self.state[index] = KEPT if index < self.places else READ

    def is_bad(self, index: int) -> bool:
        """Whether the clip is known to be unreadable."""
        return self.state[index] >= FAILED

    def _views(self, index: int) -> list[tuple[str, Tensor]]:
        whole = self._memory[index * self._size : (index + 1) * self._size]
        return [(name, whole[at : at + size].view(kind).view(shape)) for name, at, size, kind, shape in self._layout]

    def __reduce__(self) -> Any:
        return ClipCache, (len(self.state), self.template, 0, np.where(self.state >= FAILED, self.state, UNTRIED))


def _layout(template: Any) -> tuple[list[tuple[str, int, int, torch.dtype, torch.Size]], int]:
    """Offset and type of each field of a sample, and the bytes of a sample."""
    layout, at = [], 0
    for field in fields(template):
        tensor = torch.as_tensor(getattr(template, field.name))
        layout.append((field.name, at, tensor.nbytes, tensor.dtype, tensor.shape))
        at += -(-tensor.nbytes // _ALIGN) * _ALIGN
    return layout, max(at, 1)
