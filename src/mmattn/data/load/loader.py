"""Loaders that resume in the middle of an epoch and report unreadable clips."""

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
    """A DataLoader over a GlobalBatchSampler whose state is (epoch, batches yielded).

    `workers`: loader processes; they need `collate_fn` and a dataset with an `example()`. `clip_s`: the time that one
    clip may take. A batch that takes longer than all its clips may raises an error.
    """

    _yielded: tuple[int, int] = (-1, 0)

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
            worker_init_fn=ignore_signals if workers else None,
            timeout=WAIT_S + clips * clip_s if workers else 0,
        )

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch names a private class
        sampler = self._sampler
        epoch = sampler.epoch
        first = sampler.resumes_at()
        for number, batch in enumerate(self._batches(), start=first + 1):
            self._yielded = (epoch, number)
            yield batch

    def _batches(self) -> Iterator[Any]:
        return unpacked(super().__iter__())

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were yielded."""
        return {"epoch": self._yielded[0], "batches": self._yielded[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batch at which `state` was taken."""
        self._yielded = (state["epoch"], state["batches"])
        self._sampler.seen = self._yielded

    @property
    def global_batch(self) -> int:
        """Clips in the batch of one step, over all processes."""
        return self._sampler.global_batch

    @property
    def _sampler(self) -> GlobalBatchSampler:
        assert isinstance(self.batch_sampler, GlobalBatchSampler)
        return self.batch_sampler


class ClipLoader(EpochLoader):
    """Batches of a ClipDataset. Unreadable clips of loader processes are reported here, in the training process."""

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
        self._rows: dict[str, int] = {}  # id -> row, made when it is needed
        self._elsewhere: list[int] = []  # rows that other processes found bad
        self._merged = 0  # entries of quarantine.elsewhere that are in it

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
        """Raise MmattnError if too many clips are bad, over all loader processes and ranks."""
        new = self.quarantine.elsewhere[self._merged :]
        if new and not self._rows:
            self._rows = {name: index for index, name in enumerate(self.clips.ids)}
        self._elsewhere += [self._rows[name] for name in new if name in self._rows]  # others are of another split
        self._merged += len(new)
        self.quarantine.check(self.clips.cache.state, self._elsewhere, self._sampler.world)


def ignore_signals(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the training process decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Slurm also signals every process of a job that it preempts.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "SLURM_JOB_ID" in os.environ else signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
