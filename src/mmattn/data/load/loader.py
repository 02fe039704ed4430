"""Loaders that can go on in the middle of an epoch, and tell what could not be read."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from mmattn.data.load.cache import FAILED, READ, UNTRIED
from mmattn.data.load.dataset import ClipDataset
from mmattn.data.load.quarantine import Quarantine, exclude
from mmattn.data.load.sampler import GlobalBatchSampler
from mmattn.data.load.transfer import WAIT_S, Packed, is_short, nbytes, unpacked


class EpochLoader(DataLoader[Any]):
    """Its `batch_sampler` is a GlobalBatchSampler, its state is (epoch, batches that were handed out).

    `workers`: processes that load; they need `collate_fn` and a dataset with an `example()`. `clip_s`: how long one
    clip may take them. A batch that does not come in that time, of all its clips, ends the work with an error.
    """

    _handed_out: tuple[int, int] = (-1, 0)

    def __init__(
        self,
        dataset: Any,
        *,
        batch_sampler: GlobalBatchSampler,
        workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        clip_s: float = 0.0,
    ) -> None:
        clips, world = -(-batch_sampler.global_batch // batch_sampler.world), batch_sampler.world
        if workers and collate_fn:
            size = clips * nbytes(collate_fn([dataset.example()]))
            here = int(os.environ.get("LOCAL_WORLD_SIZE") or world)
            collate_fn = Packed(collate_fn) if is_short(workers, size, here) else collate_fn
        super().__init__(
            dataset,
            batch_sampler=batch_sampler,
            num_workers=workers,
            collate_fn=collate_fn,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals if workers else None,
            timeout=WAIT_S + clips * clip_s if workers else 0,
        )

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch names a private class
        sampler = self._sampler
        epoch = sampler.epoch
        first = sampler.resumes_at()
        for number, batch in enumerate(self._batches(), start=first + 1):
            self._handed_out = (epoch, number)
            yield batch

    def _batches(self) -> Iterator[Any]:
        return unpacked(super().__iter__())

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._handed_out[0], "batches": self._handed_out[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._handed_out = (state["epoch"], state["batches"])
        self._sampler.seen = self._handed_out

    @property
    def global_batch(self) -> int:
        """Clips of a step's batch over all processes."""
        return self._sampler.global_batch

    @property
    def _sampler(self) -> GlobalBatchSampler:
        assert isinstance(self.batch_sampler, GlobalBatchSampler)
        return self.batch_sampler


class ClipLoader(EpochLoader):
    """Batches of a ClipDataset. What loader processes find unreadable is reported here, in the process that trains."""

    def __init__(
        self,
        dataset: ClipDataset,
        sampler: GlobalBatchSampler,
        *,
        workers: int,
        quarantine: Quarantine,
        clip_s: float = 0.0,
    ) -> None:
        how = {"workers": workers, "collate_fn": dataset.collate_and_report, "clip_s": clip_s}
        super().__init__(dataset, batch_sampler=sampler, **how)
        self.clips = dataset
        self.quarantine = quarantine
        self._rows: dict[str, int] = {}  # id -> row, once it is asked for
        self._elsewhere: list[int] = []  # rows that other processes found bad
        self._told = 0  # of quarantine.elsewhere, what is in it

    def _batches(self) -> Iterator[Any]:
        state = self.clips.cache.state
        self.quarantine.refresh()
        exclude(state, self.clips.ids, self.quarantine)
        self._check()
        for batch, errors, tried in super()._batches():
            for index, good in tried:
                if state[index] == UNTRIED:  # read by a process that shares no memory with this one
                    state[index] = READ if good else FAILED
            for name, error in errors:
                self.quarantine.add(name, error)
            if errors:
                self._check()
            yield batch

    def _check(self) -> None:
        """Raises MmattnError when too many clips are bad, over all loader processes and ranks."""
        new = self.quarantine.elsewhere[self._told :]
        if new and not self._rows:
            self._rows = {name: index for index, name in enumerate(self.clips.ids)}
        self._elsewhere += [self._rows[name] for name in new if name in self._rows]  # others are of another split
        self._told += len(new)
        self.quarantine.check(self.clips.cache.state, self._elsewhere, self._sampler.world)


def leave_signals(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal: the one that trains decides, its workers go on until it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Slurm, too, signals every process of a job that it preempts.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "SLURM_JOB_ID" in os.environ else signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
