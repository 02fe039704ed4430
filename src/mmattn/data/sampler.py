"""Which clips make which batch: one permutation of the data set for each (seed, epoch), cut into global batches.

Every rank takes its slice `[rank::world]` of each global batch, so the order of samples does not depend on the number
of ranks or workers. Items are (epoch, index): augmentation is keyed by both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from mmattn.errors import UsageError

Item = tuple[int, int]  # (epoch, index of the row)


class GlobalBatchSampler(Sampler[list[Item]]):
    """Batches of (epoch, index). In training the last, smaller batch is left out when there is a full one.

    With fewer rows than a batch, the batch is the largest multiple of `world` that they fill.
    """

    def __init__(self, rows: int, global_batch: int, *, seed: int, train: bool, rank: int = 0, world: int = 1) -> None:
        if train and global_batch % world:
            raise UsageError(f"data.batch_size={global_batch} does not divide among {world} processes")
        if train and rows < world:  # a process without a batch would leave the others waiting for its gradients
            raise UsageError(f"{rows} clips cannot be shared among {world} processes; set trainer.devices to fewer")
        self.rows = rows
        self.global_batch = min(global_batch, max(rows - rows % world, world)) if train else global_batch
        self.seed = seed
        self.train = train
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.seen: tuple[int, int] = (-1, 0)  # (epoch, batches of it already seen), for a resumed run

    @property
    def sampler(self) -> GlobalBatchSampler:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resumes_at(self) -> int:
        """The first batch of this epoch that was not seen yet."""
        return self.seen[1] if self.seen[0] == self.epoch else 0

    def __len__(self) -> int:
        if self.train:
            return max(1, self.rows // self.global_batch)
        return -(-self.rows // self.global_batch)

    def __iter__(self) -> Iterator[list[Item]]:
        order = torch.arange(self.rows)
        if self.train:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.rows, generator=generator)
        for number in range(self.resumes_at(), len(self)):
            batch = order[number * self.global_batch : (number + 1) * self.global_batch]
            mine = batch[self.rank :: self.world]
            if len(mine):
                yield [(self.epoch, int(index)) for index in mine]
