"""Batches of clips: one order of clips for each (seed, epoch), divided into global batches.

Every rank takes its slice `[rank::world]` of each global batch, so the order of samples does not depend on the number
of ranks or workers. Augmentation is keyed by the draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Sampler

from mmattn.errors import UsageError
from mmattn.text import counted


class Draw(NamedTuple):
    """An index into a dataset. `repeat`: how often this epoch drew the clip before. `row` -1: its `example()`."""

    epoch: int
    row: int
    repeat: int = 0


class GlobalBatchSampler(Sampler[list[Draw]]):
    """Batches of draws. In training a smaller last batch is dropped if there is a full one.

    `length`: clips of a training epoch, None = all `rows`. Epochs then take consecutive parts of a series of
    permutations: each clip comes once before any comes again. With `weights` (N,), clips are drawn independently with
    these probabilities instead. With fewer clips than a batch, the batch is the largest multiple of `world` that they
    fill.
    """

    def __init__(
        self,
        rows: int,
        global_batch: int,
        *,
        seed: int,
        train: bool,
        rank: int = 0,
        world: int = 1,
        weights: Float[Tensor, " N"] | None = None,
        length: int | None = None,
    ) -> None:
        if train and global_batch % world:
            raise UsageError(f"data.batch_size={global_batch} does not divide among {world} processes")
        length = length if train and length is not None else rows
        if train and length < world:  # the others would wait for the gradients of a process without a batch
            raise UsageError(
                f"{counted(length, 'clip')} cannot be shared among {world} processes; set trainer.devices to fewer"
            )
        self.rows = rows
        self.length = length
        self.weights = weights
        self.global_batch = min(global_batch, max(length - length % world, world)) if train else global_batch
        self.seed = seed
        self.train = train
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.seen: tuple[int, int] = (-1, 0)  # (epoch, batches of it already used), for a resumed run

    @property
    def sampler(self) -> GlobalBatchSampler:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration."""
        self.epoch = epoch

    def resumes_at(self) -> int:
        """The first batch of this epoch that has not been used yet."""
        return self.seen[1] if self.seen[0] == self.epoch else 0

    def __len__(self) -> int:
        if self.train:
            return max(1, self.length // self.global_batch)
        return -(-self.length // self.global_batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        repeats = _repeats(order)
        for number in range(self.resumes_at(), len(self)):
            batch = slice(number * self.global_batch, (number + 1) * self.global_batch)
            indices = order[batch][self.rank :: self.world].tolist()
            again = repeats[batch][self.rank :: self.world].tolist()
            items = [Draw(self.epoch, index, repeat) for index, repeat in zip(indices, again, strict=True)]
            yield items or [Draw(self.epoch, -1)]  # all processes need the same number of batches

    def _order(self) -> Int[Tensor, " L"]:
        """The clips of this epoch for all ranks."""
        if not self.train:
            return torch.arange(self.rows)
        if self.weights is not None:
            chances = self.weights.double().cumsum(0)
            draws = torch.rand(self.length, dtype=torch.float64, generator=self._generator(self.epoch))
            return torch.searchsorted(chances, draws * chances[-1], right=True).clamp(max=self.rows - 1)
        first, parts = self.epoch * self.length, []
        for number in range(first // self.rows, -(-(first + self.length) // self.rows)):
            permutation = torch.randperm(self.rows, generator=self._generator(number))
            start = number * self.rows
            parts.append(permutation[max(0, first - start) : first + self.length - start])
        return torch.cat(parts)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + number)


def _repeats(order: Int[Tensor, " L"]) -> Int[Tensor, " L"]:
    """How often each entry occurs before its place."""
    ordered, places = torch.sort(order, stable=True)
    _, counts = torch.unique_consecutive(ordered, return_counts=True)
    firsts = counts.cumsum(0) - counts
    repeats = torch.empty_like(order)
    repeats[places] = torch.arange(len(order)) - firsts.repeat_interleave(counts)
    return repeats
