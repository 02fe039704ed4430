"""How loader processes pass batches on: through shared memory, or through pipes where it is too small.

A tensor that a loader process sends lies in /dev/shm, whichever of torch's sharing strategies is chosen. Docker gives
64 MB of it. What does not fit is lost with its batch, and the process that trains waits for it for ever. Pipes need no
shared memory, at the price of a copy.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from mmattn.errors import MmattnError
from mmattn.progress import log

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches of each loader process that may wait, torch's own number
HELD = 4  # batches that the training process holds on to, generously
MARGIN = 0.8  # of what is free: other processes use it, too
WAIT_S = 600.0  # for a batch beyond what its files may take


class Packed:
    """Makes batches with `collate` and sends each as one string of bytes."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Any) -> bytes:
        return pickle.dumps(self.collate(items), protocol=pickle.HIGHEST_PROTOCOL)


def is_short(workers: int, batch_bytes: int, processes: int = 1, place: Path = SHARED_MEMORY) -> bool:
    """Whether the batches of all loader processes may not fit; says so. `processes`: that train on this machine."""
    if not place.is_dir():
        return False
    free = os.statvfs(place)
    free_bytes = free.f_bavail * free.f_frsize * MARGIN / processes
    needed = (workers * PREFETCHED + HELD) * batch_bytes
    if needed <= free_bytes:
        return False
    _log_once(
        f"{place}: {free_bytes / 2**20:.0f} MB for this process where data.workers={workers} may need "
        f"{needed / 2**20:.0f} MB, so batches come through pipes, which is slower; in a container: --shm-size=8g"
    )
    return True


_log_once = cache(log)  # not for each loader of a process


def nbytes(value: Any) -> int:
    """Of all tensors in a batch."""
    if isinstance(value, Tensor):
        return value.nbytes
    if is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return sum(nbytes(part) for part in value.values())
    return sum(nbytes(part) for part in value) if isinstance(value, (list, tuple)) else 0


def unpacked(batches: Iterator[Any]) -> Iterator[Any]:
    """Batches as `collate` made them. Raises MmattnError where loader processes end or stand still."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            raise (lost_worker(error) or error) from None
        yield pickle.loads(batch) if isinstance(batch, bytes) else batch


def lost_worker(error: RuntimeError) -> MmattnError | None:
    """In one line that a loader process ended or did not answer. torch says so at any time, from a signal's handler."""
    if not str(error).startswith("DataLoader"):
        return None
    return MmattnError(f"{str(error).splitlines()[0].strip()}; data.workers=0 loads without other processes")
