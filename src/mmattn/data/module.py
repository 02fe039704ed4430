"""A data set made ready to train and validate on: rows, vocabulary, loaders."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch.utils.data import DataLoader

from mmattn.config import Config, build
from mmattn.data.augment import Augment
from mmattn.data.dataset import ClipDataset, collate
from mmattn.data.labels import TagVocabulary
from mmattn.data.manifest import Row
from mmattn.data.sampler import GlobalBatchSampler
from mmattn.data.sources import Source
from mmattn.data.transforms import ClipSpec
from mmattn.errors import MediaError, UsageError
from mmattn.types import Batch


class ClipLoader(DataLoader[Any]):
    """A loader that can go on in the middle of an epoch. Its state is (epoch, batches that were handed out)."""

    _handed_out: tuple[int, int] = (-1, 0)

    def __iter__(self) -> Iterator[Batch]:
        sampler = self._sampler
        epoch = sampler.epoch
        first = sampler.resumes_at()
        for number, batch in enumerate(super().__iter__(), start=first + 1):
            self._handed_out = (epoch, number)
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._handed_out[0], "batches": self._handed_out[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._handed_out = (state["epoch"], state["batches"])
        self._sampler.seen = self._handed_out

    @property
    def _sampler(self) -> GlobalBatchSampler:
        assert isinstance(self.batch_sampler, GlobalBatchSampler)
        return self.batch_sampler


@dataclass(frozen=True)
class ClipData:
    """`data=...` of a config. `batch_size` counts clips over all processes; `cache_gb` bounds memory per process."""

    source: Source
    clip: ClipSpec
    augment: Augment
    batch_size: int
    workers: int
    cache_gb: float
    seed: int

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The rows of each split. Raises UsageError unless there is something to train and to validate on."""
        splits: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
        for row in self.source.rows():
            splits[row.split or "train"].append(row)
        for name in ("train", "val"):
            if not splits[name]:
                counts = ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())
                raise UsageError(f"the data set has no {name} clips ({counts}); set the 'split' column")
        return splits

    @cached_property
    def vocabulary(self) -> TagVocabulary:
        vocabulary = TagVocabulary.from_rows(self.rows["train"])
        if not any(row.tags for row in self.rows["val"]):
            raise UsageError("no validation clip has tags, so nothing could be measured; tag some of them")
        for split in ("val", "test"):
            vocabulary.check_known(self.rows[split], f"{split} split")
        return vocabulary

    def dataset(self, split: str, *, train: bool = False, vocabulary: TagVocabulary | None = None) -> ClipDataset:
        """A split, read once and kept in memory as far as it fits. Unreadable files are reported and left out."""
        if split not in self._loaded:
            self._loaded[split] = self._load(self.rows[split], f"reading {split} clips")
        return self._loaded[split].variant(vocabulary or self.vocabulary, self.augment if train else None)

    def check_readable(self) -> None:
        """Raises UsageError unless the training and validation splits each have a file that can be read."""
        for split in ("train", "val"):
            errors = (self._error(row) for row in self.rows[split])
            first = next(errors)
            if first is not None and all(error is not None for error in errors):
                raise UsageError(f"none of the {len(self.rows[split])} {split} files is readable; the first: {first}")

    def _error(self, row: Row) -> MediaError | None:
        try:
            self.clip.read(row.path, row.start, row.end)
        except MediaError as error:
            return error
        return None

    @cached_property
    def _loaded(self) -> dict[str, ClipDataset]:
        return {}

    def _load(self, rows: list[Row], title: str) -> ClipDataset:
        cache_bytes = int(self.cache_gb * 2**30)
        dataset = ClipDataset(rows, self.clip, self.vocabulary, augment=None, seed=self.seed, cache_bytes=cache_bytes)
        errors = dataset.load(title)
        if not len(dataset):
            raise UsageError(f"{title}: none of {len(rows)} files is readable; the first: {errors[0]}")
        if errors:
            print(f"{title}: {_summary(errors)}; left out of {len(rows)}", file=sys.stderr)
        return dataset

    def loader(self, dataset: ClipDataset, *, train: bool, rank: int = 0, world: int = 1) -> ClipLoader:
        sampler = GlobalBatchSampler(len(dataset), self.batch_size, seed=self.seed, train=train, rank=rank, world=world)
        return ClipLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            persistent_workers=self.workers > 0,
        )


def build_data(config: Config) -> ClipData:
    """From the resolved config group `data`. Raises UsageError for what does not fit."""
    for key, least in (("batch_size", 1), ("workers", 0), ("cache_gb", 0)):
        if config[key] < least:
            raise UsageError(f"data.{key}={config[key]}: expected {least} or more")
    return ClipData(
        source=build(config["source"]),
        clip=build(config["clip"]),
        augment=build(config["augment"]),
        batch_size=config["batch_size"],
        workers=config["workers"],
        cache_gb=config["cache_gb"],
        seed=config["seed"],
    )


def _summary(errors: list[MediaError]) -> str:
    reasons = Counter(error.reason for error in errors)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(errors)} unreadable files ({counts}), the first: {errors[0]}"
