"""Send batches from loader processes through shared memory, or through pipes where that is too small.

A tensor sent by a loader process lies in /dev/shm, whichever of torch's sharing strategies is used. Docker provides
64 MB of it. A batch that does not fit is lost, and the training process would wait for it for ever. Pipes need no
shared memory but copy the data.
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

from mmattn.errors import MmattnError, first_line
from mmattn.progress import log

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches that wait for each loader process, torch's default
HELD = 4  # batches that the training process keeps, a generous number
MARGIN = 0.8  # of the free memory: other processes use it too
_REMEDY = "data.workers=0 loads in the training process"
WAIT_S = 600.0  # for a batch, beyond the time for its files


class Packed:
    """Collates batches with `collate` and pickles each to bytes."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Any) -> bytes:
        return pickle.dumps(self.collate(items), protocol=pickle.HIGHEST_PROTOCOL)


def is_short(workers: int, batch_bytes: int, processes: int = 1, place: Path = SHARED_MEMORY) -> bool:
    """Whether the batches of all loader processes may not fit, which is logged.

    `processes`: training processes on this machine.
    """
    if not place.is_dir():
        return False
    free = os.statvfs(place)
    free_bytes = free.f_bavail * free.f_frsize * MARGIN / processes
    needed = (workers * PREFETCHED + HELD) * batch_bytes
    if needed <= free_bytes:
        return False
    _log_once(
        f"{place}: {free_bytes / 2**20:.0f} MB for this process where data.workers={workers} may need "
        f"{needed / 2**20:.0f} MB, so batches are sent through pipes, which is slower; in a container set --shm-size=8g"
    )
    return True


_log_once = cache(log)  # not for each loader of a process


def nbytes(value: Any) -> int:
    """The bytes of all tensors in a batch."""
    if isinstance(value, Tensor):
        return value.nbytes
    if is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return sum(nbytes(part) for part in value.values())
    return sum(nbytes(part) for part in value) if isinstance(value, (list, tuple)) else 0


def unpacked(batches: Iterator[Any]) -> Iterator[Any]:
    """The unpickled batches. Raises MmattnError where loader processes end or hang."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            raise (lost_worker(error) or error) from None
        except (ConnectionError, EOFError):  # it ended while it handed over a tensor's file descriptor
            raise MmattnError(f"a DataLoader worker ended unexpectedly; {_REMEDY}") from None
        yield pickle.loads(batch) if isinstance(batch, bytes) else batch


def lost_worker(error: RuntimeError) -> MmattnError | None:
    """A one-line error for a loader process that ended or hangs, which torch may raise at any time; else None."""
    if not str(error).startswith("DataLoader"):
        return None
    return MmattnError(f"{first_line(error)}; {_REMEDY}")
